"""Files of parameters as people damage them: each is read, or refused in one sentence."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from koner.errors import KonerError
from koner.params import load_params, switch_recipe
from koner.pretraining.params import load_pretrain_params
from koner.sweep.plan import load_plan
from koner.validation import read_yaml, short_repr

ROOT = Path(__file__).parents[1]
# Each with what the sentence must say of it.
DAMAGED_VALUES = [
    ("seed", "9" * 5000, "line {line}: not valid YAML: '999"),
    ("seed", "0x" + "f" * 5000, "seed: a number of more than 40 digits is not allowed; it must be a whole number"),
    ("seed", "!!int x", "line {line}: not valid YAML: 'x' can't be read as a value of type int"),
    ("lr", "!!float x", "line {line}: not valid YAML: 'x' can't be read as a value of type float"),
    ("legal", "!!bool maybe", "line {line}: not valid YAML: 'maybe' can't be read as a value of type bool"),
    ("seed", "2024-99-99", "line {line}: not valid YAML: '2024-99-99' can't be read as a value of type timestamp"),
    ("seed", "2024-99-99T99:99:99Z", "line {line}: not valid YAML: '2024-99-99T99:99:99Z' can't be read"),
    ("seed", "!!python/object/apply:os.system ['true']", "line {line}: not valid YAML: could not determine"),
    ("seed", "[" * 3000 + "]" * 3000, "not valid YAML: it is nested too deeply"),
    ("seed", "{a: " * 3000 + "1" + "}" * 3000, "not valid YAML: it is nested too deeply"),
    ("seed", "[" * 3000, "not valid YAML: it is nested too deeply"),
    ("seed", "'" + "x" * 1_000_000 + "'", "seed: 'xxx"),
    ("seed", "&a\n  <<: *a", "seed: {{}} is not allowed; it must be a whole number"),
    ("seed", "&a [*a]", "seed: [[[...]]] is not allowed; it must be a whole number"),
    ("seed", "\t3", "line {line}: not valid YAML: found character '\\t'"),
    ("source", "'a\0b'", "line {line}: not valid YAML: the character U+0000 is not allowed"),
    ("source", '"a\\0b"', "source: 'a\\x00b' is not allowed"),
    ("source", '"a\\nb"', "source: 'a\\nb' is not allowed"),
    ("source", '"\\ud800"', "source: '\\ud800' is not allowed"),
    ("source", "a/" * 2500, "source: 'a/a/a"),
    ("source", "!!binary AAAA", "source: b'\\x00\\x00\\x00' is not allowed"),
]


def damaged(path, key, value):
    """Return the content of a file of parameters with another value of a key, and the line of the key."""
    text, count = re.subn(rf"^{key}: .*$", lambda _: f"{key}: {value}", path.read_text(encoding="utf-8"), flags=re.M)
    assert count == 1
    return text, text[: text.index(f"\n{key}: ")].count("\n") + 2


def sentence(read, path):
    """Return the sentence that a file is refused with, without the file's name, or None if it is read."""
    try:
        read(path)
    except KonerError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert message.isprintable()
        assert len(message) < 1000
        return message.removeprefix(str(path)).lstrip(":, ")
    return None


@pytest.mark.parametrize(("key", "value", "expected"), DAMAGED_VALUES)
def test_a_damaged_value_is_refused_in_a_sentence_by_every_reader(tmp_path, key, value, expected):
    path = tmp_path / "params.yaml"
    text, line = damaged(ROOT / "params.yaml", key, value)
    path.write_text(text, encoding="utf-8")
    expected = expected.format(line=line)
    assert sentence(load_params, path).startswith(expected)
    # Nesting takes the parser seconds. The recipe replaces the values of the other keys.
    if key == "seed" and "nested" not in expected:
        assert sentence(lambda file: switch_recipe("klue", file), path).startswith(expected)
        assert path.read_text(encoding="utf-8") == text


def bomb(key):
    """Return lines of YAML whose last list has 10^11 items, made of a hundred."""
    items = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    items += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11)]
    return "\n".join([*items, f"{key}: *a10", f"{key}: *a10"]) + "\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the top level must be `key: value` lines"),
        (b"- lr\n", "the top level must be `key: value` lines"),
        ("# 한국어\nlr: 0.1\n".encode("cp949"), "line 1: it is not UTF-8"),
        ("lr: 0.1\n# 한국어\n".encode("cp949"), "line 2: it is not UTF-8"),
        ("lr: 0.1\n".encode("utf-16"), "line 1: it is not UTF-8"),
        (b"a: 1\n---\nb: 1\n", "line 2: not valid YAML: expected a single document in the stream, but found another"),
        (b"a: &a 1\nb: *b\n", "line 2: not valid YAML: found undefined alias 'b'"),
        (bomb("seed").encode(), "line 13: not valid YAML: the key 'seed' is there twice"),
        (bomb("[x]").encode(), "line 13: not valid YAML: the key ('x',) is there twice"),
        (b"? [a, b]\n: 3\n", "the key ('a', 'b') is not a word; known keys are"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, content, expected):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    for read in (load_params, lambda file: switch_recipe("klue", file)):
        assert sentence(read, path).startswith(expected)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["params.yaml"]


@pytest.mark.parametrize(("key", "expected"), [('"a\\nb"', "'a\\nb'"), ("? " + "k" * 5000 + "\n", "'kkk")])
def test_an_unknown_key_is_refused_in_a_sentence(tmp_path, key, expected):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8") + f"{key}: 3\n", encoding="utf-8")
    message = sentence(load_params, path)
    assert message.startswith(expected)
    assert ": 3 is set, but there is no such key" in message


def test_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("\ufeff" + (ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_params(path) == load_params(ROOT / "params.yaml")


def test_what_is_not_a_file_is_refused(tmp_path):
    assert sentence(read_yaml, tmp_path) == "can't be read: Is a directory"
    os.mkfifo(tmp_path / "pipe")
    assert sentence(read_yaml, tmp_path / "pipe") == "is not a regular file"
    assert sentence(read_yaml, tmp_path / ("a" * 300)) == "can't be read: File name too long"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_recipe_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_bytes()
    path.write_bytes(before)
    path.with_suffix(".tmp").symlink_to("/dev/full")
    assert sentence(lambda file: switch_recipe("klue", file), path) == "can't be written: No space left on device"
    assert (path.read_bytes(), os.listdir(tmp_path)) == (before, ["params.yaml"])


SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.from_regex(r"[-+]?(0x|0o|0b)?[0-9_:.e+-]{1,12}", fullmatch=True),
    st.from_regex(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z?)?", fullmatch=True),
    st.sampled_from(["null", "~", "true", ".nan", "-.inf", "1e999", "~nobody/x", "<<", "*a", "&a", "|", ">", "-", "?"]),
)
TAGS = ["!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!pairs", "!!null", "!!str", "!x"]
FRAGMENTS = st.one_of(
    SCALARS,
    st.builds("{} {}".format, st.sampled_from([*TAGS, "&a"]), SCALARS),
    st.builds('"{}"'.format, st.text(st.sampled_from("a\\0nuxUdD8/\u2028\t한"), max_size=12)),
    st.builds("[{}, {}]".format, SCALARS, SCALARS),
    st.builds("{{{}: {}}}".format, SCALARS, SCALARS),
    st.builds("{{low: {}, high: {}, step: {}, log: {}}}".format, SCALARS, SCALARS, SCALARS, SCALARS),
    st.builds("{{choices: [{}, {}]}}".format, SCALARS, SCALARS),
)
READERS = {
    "params.yaml": load_params,
    "stages/pretrain/params.yaml": load_pretrain_params,
    "sweep.yaml": lambda path: load_plan(path, load_params(ROOT / "params.yaml")),
}
LINES = [
    (name, number)
    for name in READERS
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines())
    if ": " in line and not line.startswith("#")
]


@settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LINES), FRAGMENTS)
@example(("sweep.yaml", LINES[-1][1]), "{low: 0.0, high: 0.3, step: 5.0e-324}")
@example(("sweep.yaml", LINES[-1][1]), "{low: 0.0, high: 0.3, step: 1" + "0" * 400 + "}")
@example(("sweep.yaml", LINES[-1][1]), "{low: 0.0, high: 0.0, step: .inf}")
def test_any_value_of_any_parameter_is_read_or_refused_in_a_sentence(tmp_path, line, fragment):
    name, number = line
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    lines[number] = f"{lines[number].partition(': ')[0]}: {fragment}"
    path = tmp_path / "damaged.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sentence(READERS[name], path)
    if name == "params.yaml":
        sentence(lambda file: switch_recipe("klue", file), path)


@settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | st.text(st.sampled_from("ab:-?[]{}&*!|>'\"%@`#<, \n\t"), max_size=40).map(str.encode))
def test_any_file_is_read_or_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "damaged.yaml"
    path.write_bytes(content)
    for read in READERS.values():
        assert sentence(read, path)


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary() | st.floats(), st.lists))
def test_every_value_has_a_short_form_without_line_ends(value):
    assert len(short_repr(value)) < 1000
    assert short_repr(value).isprintable()
