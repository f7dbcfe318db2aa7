from itertools import pairwise

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from app.reading import MAX_HEAD, Phase, RequestReader, UnreadableRequestError, decode_chunks

MAX_BODY = 1000
HOST = b"Host: a\r\n"


def make_reader():
    return RequestReader(Config(), ("192.0.2.1", 1), MAX_BODY)


def read_all(reader, *parts):
    """Feed the parts, and return the method, path, body and length of each complete request."""
    requests = []
    for part in parts:
        reader.feed(part)
        while request := reader.next_request():
            decode_chunks(request)
            length = dict(request.headers).get("CONTENT-LENGTH")
            requests.append((request.method, request.path, request.body.read(), length))
    return requests


def read_error(*parts):
    with pytest.raises(UnreadableRequestError) as error:
        read_all(make_reader(), *parts)
    assert error.value.request.should_close()
    return error.value


def chunked(*chunks, end=b"0\r\n\r\n", path=b"/c"):
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def sized(body, path=b"/s"):
    return b"PUT %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, HOST, len(body), body)


EMPTY = b"GET /e HTTP/1.1\r\n" + HOST + b"\r\n"

requests_strategy = st.one_of(
    st.just((EMPTY, ("GET", "/e", b"", None))),
    st.binary(max_size=60).map(lambda body: (sized(body), ("PUT", "/s", body, str(len(body))))),
    st.tuples(
        st.lists(st.binary(min_size=1, max_size=20), max_size=4),
        st.sampled_from([b"0\r\n\r\n", b"000;a=b\r\n\r\n", b"0\r\nX: 1\r\nY: 2\r\n\r\n"]),
    ).map(lambda chunks: (chunked(*chunks[0], end=chunks[1]), ("POST", "/c", b"".join(chunks[0]), None))),
)


@given(st.lists(requests_strategy, min_size=1, max_size=4), st.lists(st.integers(0, 600), max_size=8))
def test_requests_are_the_same_however_their_bytes_are_cut(requests, cuts):
    stream = b"".join(data for data, _ in requests)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[start:end] for start, end in pairwise(places)]
    expected = [(method, path, body, length or None) for _, (method, path, body, length) in requests]
    reader = make_reader()
    actual = read_all(reader, *parts)
    assert [request[:3] for request in actual] == [request[:3] for request in expected]
    # The application sees the length of a body in chunks, too.
    assert all(int(length) == len(body) for method, _, body, length in actual if method != "GET")
    assert reader.phase is Phase.START
    assert len(reader) == 0


@given(st.data())
def test_any_bytes_are_a_request_or_incomplete_or_an_error(data):
    """Requests that are damaged at random: each is read, waited for or refused in one sentence."""
    stream = bytearray(chunked(b"abc", b"de") + sized(b"text") + EMPTY)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(stream)))
        stream[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b": ", b"-1", b"0x", b";", b"\0"])
        )
    errors = []
    try:
        read_all(make_reader(), bytes(stream))
    except UnreadableRequestError as error:
        errors.append(error)
    for error in errors:
        assert 400 <= error.status < 600
        assert "\n" not in error.detail
        assert error.detail.endswith(".")
        assert len(error.detail) < 300


def test_the_phases_of_a_request():
    reader = make_reader()
    for data, phase in ((b"", Phase.START), (b"P", Phase.HEAD), (sized(b"abc")[1:-1], Phase.BODY), (b"c", Phase.START)):
        read_all(reader, data)
        assert reader.phase is phase


def test_the_client_is_asked_for_the_body_once():
    reader = make_reader()
    head, body = sized(b"abc")[:-3], b"abc"
    assert read_all(reader, head[:-2] + b"Expect: 100-continue\r\n\r\n") == []
    assert [reader.take_expectation(), reader.take_expectation()] == [True, False]
    assert read_all(reader, body) == [("PUT", "/s", b"abc", "3")]


@pytest.mark.parametrize("data", [sized(b"x" * 1001)[:-1000], chunked(b"x" * 500, b"x" * 501)[:600]])
def test_a_body_that_is_too_large_is_not_waited_for(data):
    reader = make_reader()
    reader.feed(data)
    request = reader.next_request()
    assert (request.body.read(), dict(request.headers)["CONTENT-LENGTH"]) == (b"", "1001")
    assert request.should_close()


def test_the_framing_of_chunks_is_bounded():
    error = read_error(chunked(b"x")[:-5], *[b"1;%s\r\nx\r\n" % (b"e" * 8000) for _ in range(9)])
    assert (error.status, error.request.path) == (413, "/c")


@pytest.mark.parametrize("chunk", [b"1" * 9000, b"1;" + b"a" * 9000])
def test_the_size_of_a_chunk_is_bounded(chunk):
    assert read_error(chunked(end=chunk)).status == 400


def test_a_body_of_many_small_chunks_is_read():
    reader = RequestReader(Config(), ("192.0.2.1", 1), 2**20)
    ((_, _, body, _),) = read_all(reader, chunked(*[b"x"] * 100_000))
    assert body == b"x" * 100_000


@pytest.mark.parametrize(("part", "status"), [(b"X: " + b"a" * 1000 + b"\r\n", 431), (b"a" * 1000, 431)])
def test_the_head_is_bounded(part, status):
    start = b"GET / HTTP/1.1\r\n"
    count = MAX_HEAD // len(part) + 1
    assert read_error(start, *[part] * count).status == status


def test_a_long_request_line_is_refused_before_its_end():
    assert read_error(b"GET /" + b"a" * (MAX_HEAD + 1)).status == 414
