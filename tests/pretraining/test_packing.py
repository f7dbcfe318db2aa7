from dataclasses import fields as dataclass_fields
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from koner.labels.bio import IGNORE_INDEX
from koner.pretraining.document_store import StoredDocuments, write_documents
from koner.pretraining.packing import (
    FIELDS,
    NO_TAG,
    NO_WORD,
    Document,
    PackedDataset,
    make_document,
    pack_documents,
    write_packs,
)
from koner.text.morphemes import TAGS, AnalysedText

NOUN, PARTICLE, VERB, PAST, END = (TAGS.index(tag) for tag in ("NNP", "JKB", "VV", "EP", "EF"))
# 서울에 갔다: the syllable 갔 contains the morphemes 가 and 았.
ANALYSED = AnalysedText("서울에 갔다", ((0, 2, NOUN), (2, 1, PARTICLE), (4, 1, VERB), (4, 1, PAST), (5, 1, END)))


def test_tokens_have_the_words_and_morphemes_of_their_characters():
    d = make_document(ANALYSED, [0, 10, 11, 12, 2], [(0, 0), (0, 2), (2, 3), (4, 6), (0, 0)])
    assert d.input_ids.tolist() == [0, 10, 11, 12, 2]
    assert d.words.tolist() == [NO_WORD, 0, 0, 1, NO_WORD]
    assert d.first_tags.tolist() == [NO_TAG, NOUN, PARTICLE, VERB, NO_TAG]
    assert d.last_tags.tolist() == [NO_TAG, NOUN, PARTICLE, END, NO_TAG]


def test_a_contraction_starts_with_one_morpheme_and_ends_with_the_next():
    d = make_document(ANALYSED, [13], [(4, 5)])
    assert (d.first_tags.tolist(), d.last_tags.tolist()) == ([VERB], [PAST])


def test_tokens_outside_morphemes_have_no_tag():
    d = make_document(AnalysedText("서울", ()), [0, 10, 2], [(0, 0), (0, 2), (0, 0)])
    assert d.first_tags.tolist() == d.last_tags.tolist() == [NO_TAG] * 3


def test_tokens_have_the_weak_label_of_their_first_character():
    tags = np.array([3, 2, 12, 12, IGNORE_INDEX, 12], np.int8)
    d = make_document(ANALYSED, [0, 10, 11, 12, 2], [(0, 0), (0, 3), (3, 4), (4, 6), (0, 0)], tags)
    assert d.weak_labels.tolist() == [IGNORE_INDEX, 3, 12, IGNORE_INDEX, IGNORE_INDEX]


def test_without_weak_labels_no_token_has_one():
    d = make_document(ANALYSED, [0, 10, 2], [(0, 0), (0, 2), (0, 0)])
    assert d.weak_labels.tolist() == [IGNORE_INDEX] * 3


def test_a_text_without_tokens_is_an_empty_document():
    assert len(make_document(AnalysedText("서울", ()), [], []).input_ids) == 0


def document_of_words(*counts, start=0):
    """Return a document of words with `counts` tokens each, and [CLS] and [SEP]; ids count up from `start`."""
    words = [NO_WORD, *(w for w, count in enumerate(counts) for _ in range(count)), NO_WORD]
    ids = np.arange(start, start + len(words), dtype=np.int32)
    return Document(ids, np.array(words), ids % 5, ids % 7, ids % 11)


def pack_into(folder, documents, length):
    """Write the packs of documents, and return their fields as lists."""
    count = write_packs(pack_documents(documents, length), folder)
    assert count == sum(len(d.input_ids) for d in documents) // length
    return {field: values.tolist() for field, values in PackedDataset(folder, length).fields.items()}


def test_packs_number_their_documents_and_words_from_zero(tmp_path):
    # [ s a a b e ] [ s c e ] [ s d d e ] in packs of 6
    documents = [document_of_words(2, 1), document_of_words(1, start=10), document_of_words(2, start=20)]
    fields = pack_into(tmp_path, documents, 6)
    assert fields["input_ids"] == [[0, 1, 2, 3, 4, 10], [11, 12, 20, 21, 22, 23]]
    assert fields["documents"] == [[0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1]]
    assert fields["words"] == [[-1, 0, 0, 1, -1, -1], [0, -1, -1, 1, 1, -1]]
    assert fields["first_tags"] == [[i % 5 for i in row] for row in fields["input_ids"]]
    assert fields["last_tags"] == [[i % 7 for i in row] for row in fields["input_ids"]]
    assert fields["weak_labels"] == [[i % 11 for i in row] for row in fields["input_ids"]]


def test_words_are_numbered_without_gaps_whatever_their_distance(tmp_path):
    text = "가" + " " * 50_000 + "나"
    d = make_document(AnalysedText(text, ()), [0, 5, 6, 2], [(0, 0), (0, 1), (50_001, 50_002), (0, 0)])
    assert pack_into(tmp_path, [d], 4)["words"] == [[-1, 0, 1, -1]]


def test_an_incomplete_pack_is_dropped(tmp_path):
    assert write_packs(pack_documents([document_of_words(2)], 5), tmp_path) == 0


@given(st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=12), st.integers(2, 9))
def test_packs_contain_the_tokens_of_documents_in_order_and_distinguish_their_words(tmp_path_factory, shapes, length):
    documents = [document_of_words(*shape, start=100 * i) for i, shape in enumerate(shapes)]
    fields = (
        pack_into(tmp_path_factory.mktemp("packs"), documents, length)
        if sum(len(d.input_ids) for d in documents) >= length
        else {field: [] for field in FIELDS}
    )
    ids = [i for row in fields["input_ids"] for i in row]
    assert ids == np.concatenate([d.input_ids for d in documents]).tolist()[: len(ids)]
    word_of = {int(i): (n, int(w)) for n, d in enumerate(documents) for i, w in zip(d.input_ids, d.words, strict=True)}
    for row, words, numbers in zip(fields["input_ids"], fields["words"], fields["documents"], strict=True):
        for i, w, n in zip(row, words, numbers, strict=True):
            assert (w == NO_WORD) == (word_of[i][1] == NO_WORD)
            assert n == word_of[i][0] - word_of[row[0]][0]
            for j, v in zip(row, words, strict=True):
                assert (w == v) == (word_of[i] == word_of[j] or w == v == NO_WORD)


def test_a_pack_is_a_dict_of_tensors(tmp_path):
    pack_into(tmp_path, [document_of_words(2, 1)], 5)
    item = PackedDataset(tmp_path, 5)[0]
    assert set(item) == set(FIELDS)
    assert all(t.dtype == torch.int64 and t.shape == (5,) for t in item.values())
    assert item["words"].tolist() == [-1, 0, 0, 1, -1]


def test_stored_documents_are_read_in_any_order(tmp_path):
    documents = [document_of_words(2, 1), Document(*[np.array([], np.int32)] * 5), document_of_words(3, start=70_000)]
    write_documents(iter(documents), tmp_path)
    stored = StoredDocuments(tmp_path)
    assert len(stored) == 3
    for i in (2, 0, 1):
        for field in (f.name for f in dataclass_fields(Document)):
            assert getattr(stored[i], field).tolist() == getattr(documents[i], field).tolist()


def test_no_documents_can_be_stored(tmp_path):
    write_documents(iter([]), tmp_path)
    assert len(StoredDocuments(tmp_path)) == 0


def test_words_are_counted_beyond_32_bits():
    first, second = document_of_words(1), document_of_words(1)
    first.words[1] = 2**31
    second = replace(second, words=second.words.astype(np.int32))
    (pack,) = pack_documents([first, second], 6)
    assert pack["words"].tolist() == [-1, 2**31, -1, -1, 2**31 + 1, -1]
