import pytest

from koner.corpus.sentences import SENTENCE_SCHEMA, Sentence, StoredSentences, from_row, sentence_batches, to_row
from koner.labels.bio import Entity
from koner.storage.parquet import read_rows, write_rows

SENTENCES = [
    Sentence("a", "서울에", "news", ("B-LC", "I-LC", "O"), (Entity(0, 2, "LC"),)),
    Sentence("b", "😀", None, ("O",), ()),
    Sentence("c", "김 김", "reviews", ("B-PS", "O", "B-PS"), (Entity(0, 1, "PS"), Entity(2, 3, "PS"))),
    Sentence("d", "서울에", "news", ("O", "O", "O"), ()),
]


def test_parquet_keeps_every_field(tmp_path):
    path = tmp_path / "part.parquet"
    write_rows(path, map(to_row, SENTENCES), SENTENCE_SCHEMA)
    assert list(map(from_row, read_rows(path))) == SENTENCES
    assert list(StoredSentences(path)) == SENTENCES


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("sentences", [SENTENCES, SENTENCES[1:2], []])
def test_batches_of_sentences_are_their_rows(monkeypatch, size, sentences):
    monkeypatch.setattr("koner.corpus.sentences._BATCH", size)
    batches = list(sentence_batches(sentences))
    assert [row for batch in batches for row in batch.to_pylist()] == list(map(to_row, sentences))
    assert all(batch.schema.equals(SENTENCE_SCHEMA) and batch.num_rows <= size for batch in batches)
