import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from koner.document_store import StoredDocuments, write_documents
from koner.morphemes import TAGS, Analysed
from koner.packing import FIELDS, NO_TAG, NO_WORD, Document, Packs, document, pack, write_packs

NOUN, PARTICLE, VERB, PAST, END = (TAGS.index(tag) for tag in ("NNP", "JKB", "VV", "EP", "EF"))
# 서울에 갔다: 갔 is 가 and 았 in one syllable.
ANALYSED = Analysed("서울에 갔다", ((0, 2, NOUN), (2, 1, PARTICLE), (4, 1, VERB), (4, 1, PAST), (5, 1, END)))


def test_tokens_get_the_words_and_the_morphemes_they_lie_in():
    d = document(ANALYSED, [0, 10, 11, 12, 2], [(0, 0), (0, 2), (2, 3), (4, 6), (0, 0)])
    assert d.input_ids.tolist() == [0, 10, 11, 12, 2]
    assert d.words.tolist() == [NO_WORD, 0, 0, 1, NO_WORD]
    assert d.first_tags.tolist() == [NO_TAG, NOUN, PARTICLE, VERB, NO_TAG]
    assert d.last_tags.tolist() == [NO_TAG, NOUN, PARTICLE, END, NO_TAG]


def test_a_contraction_begins_as_one_morpheme_and_ends_as_the_next():
    d = document(ANALYSED, [13], [(4, 5)])
    assert (d.first_tags.tolist(), d.last_tags.tolist()) == ([VERB], [PAST])


def test_what_no_morpheme_covers_has_no_tag():
    d = document(Analysed("서울", ()), [0, 10, 2], [(0, 0), (0, 2), (0, 0)])
    assert d.first_tags.tolist() == d.last_tags.tolist() == [NO_TAG] * 3


def test_a_text_of_no_tokens_is_an_empty_document():
    assert len(document(Analysed("서울", ()), [], []).input_ids) == 0


def of_words(*counts, start=0):
    """A document with a word of each of `counts` tokens between [CLS] and [SEP]; ids count up from `start`."""
    words = [NO_WORD, *(w for w, count in enumerate(counts) for _ in range(count)), NO_WORD]
    ids = np.arange(start, start + len(words), dtype=np.int32)
    return Document(ids, np.array(words), ids % 5, ids % 7)


def packed(documents, length, folder):
    assert write_packs(pack(documents, length), length, folder) == sum(len(d.input_ids) for d in documents) // length
    return {field: values.tolist() for field, values in Packs(folder, length).fields.items()}


def test_documents_lie_end_to_end_and_count_anew_in_each_pack(tmp_path):
    # [ s a a b e ] [ s c e ] [ s d d e ], cut every 6
    found = packed([of_words(2, 1), of_words(1, start=10), of_words(2, start=20)], 6, tmp_path)
    assert found["input_ids"] == [[0, 1, 2, 3, 4, 10], [11, 12, 20, 21, 22, 23]]
    assert found["documents"] == [[0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1]]
    assert found["words"] == [[-1, 0, 0, 1, -1, -1], [0, -1, -1, 1, 1, -1]]
    assert found["first_tags"] == [[i % 5 for i in row] for row in found["input_ids"]]
    assert found["last_tags"] == [[i % 7 for i in row] for row in found["input_ids"]]


def test_words_are_numbered_without_gaps_however_far_apart_they_are(tmp_path):
    text = "가" + " " * 50_000 + "나"
    d = document(Analysed(text, ()), [0, 5, 6, 2], [(0, 0), (0, 1), (50_001, 50_002), (0, 0)])
    assert packed([d], 4, tmp_path)["words"] == [[-1, 0, 1, -1]]


def test_a_short_rest_is_left_out(tmp_path):
    assert write_packs(pack([of_words(2)], 5), 5, tmp_path) == 0


@given(st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=12), st.integers(2, 9))
def test_packs_hold_the_tokens_of_the_documents_in_order_and_keep_their_words_together(
    tmp_path_factory, shapes, length
):
    documents = [of_words(*shape, start=100 * i) for i, shape in enumerate(shapes)]
    found = (
        packed(documents, length, tmp_path_factory.mktemp("packs"))
        if sum(len(d.input_ids) for d in documents) >= length
        else {field: [] for field in FIELDS}
    )
    ids = [i for row in found["input_ids"] for i in row]
    assert ids == np.concatenate([d.input_ids for d in documents]).tolist()[: len(ids)]
    word_of = {int(i): (n, int(w)) for n, d in enumerate(documents) for i, w in zip(d.input_ids, d.words, strict=True)}
    for row, words, numbers in zip(found["input_ids"], found["words"], found["documents"], strict=True):
        for i, w, n in zip(row, words, numbers, strict=True):
            assert (w == NO_WORD) == (word_of[i][1] == NO_WORD)
            assert n == word_of[i][0] - word_of[row[0]][0]
            for j, v in zip(row, words, strict=True):
                assert (w == v) == (word_of[i] == word_of[j] or w == v == NO_WORD)


def test_a_pack_is_read_as_tensors(tmp_path):
    packed([of_words(2, 1)], 5, tmp_path)
    item = Packs(tmp_path, 5)[0]
    assert set(item) == set(FIELDS)
    assert all(t.dtype == torch.int64 and t.shape == (5,) for t in item.values())
    assert item["words"].tolist() == [-1, 0, 0, 1, -1]


def test_documents_come_back_from_the_disk_in_any_order(tmp_path):
    documents = [of_words(2, 1), Document(*[np.array([], np.int32)] * 4), of_words(3, start=70_000)]
    write_documents(iter(documents), tmp_path)
    stored = StoredDocuments(tmp_path)
    assert len(stored) == 3
    for i in (2, 0, 1):
        for field in ("input_ids", "words", "first_tags", "last_tags"):
            assert getattr(stored[i], field).tolist() == getattr(documents[i], field).tolist()


def test_documents_without_a_token_can_be_stored(tmp_path):
    write_documents(iter([]), tmp_path)
    assert len(StoredDocuments(tmp_path)) == 0


@pytest.mark.parametrize("many", [2**31])
def test_more_words_than_32_bits_count(many):
    first, second = of_words(1), of_words(1)
    first.words[1] = many
    second = Document(second.input_ids, second.words.astype(np.int32), second.first_tags, second.last_tags)
    (found,) = pack([first, second], 6)
    assert found["words"].tolist() == [-1, many, -1, -1, many + 1, -1]
