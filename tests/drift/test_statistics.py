import math

import pytest
from tokenizers import Tokenizer, models

from koner.drift.statistics import TextStatistics, count_texts
from koner.drift.unknown import unknown_id
from koner.inference.tagger import Tagger
from tests.inference.table_model import write_model

MARKED = ["<홍길동:PS>은 <지난해:DT> <서울:LC>에 갔다.", "<R&D:OG>에 <3명:QT> 왔다."]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ner")
    write_model(folder, MARKED)
    return Tagger.load(folder, "cpu")


def test_texts_are_counted(tagger):
    # The model knows neither of the last two characters.
    texts = ["홍길동은 서울에 갔다.", "R&D에 왔다.", "쀍뛟 "]
    counted = count_texts(tagger, iter([texts[:2], texts[2:]]))
    tagged = tagger.tag_all(texts)
    assert counted.texts == 3
    assert counted.types == {"PS": 1, "LC": 1, "OG": 1}
    assert (counted.characters, counted.tokens) == (sum(map(len, texts)), sum(len(t.token_tags) for t in tagged))
    assert (counted.unknown_tokens, counted.with_unknown) == (2, 1)
    assert list(counted.densities) == [pytest.approx(1000 * 2 / 12), pytest.approx(1000 / 8), 0]
    assert counted.density("PS") == pytest.approx(1000 / counted.characters)
    for score, text in zip(counted.scores, tagged, strict=True):
        assert score == pytest.approx(math.prod(text.token_scores) ** (1 / len(text.token_scores)))


def test_merged_statistics_are_those_of_all_texts(tagger):
    groups = [["홍길동은 갔다.", "쀍"], ["R&D에 왔다."]]
    merged = TextStatistics()
    for group in groups:
        merged.merge(count_texts(tagger, iter([group])))
    assert merged == count_texts(tagger, iter(groups))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (models.WordLevel({"a": 0, "?": 1}, "?"), 1),
        (models.WordPiece({"a": 0, "b": 1, "[UNK]": 2}), 2),
        (models.Unigram([("a", 0.0), ("b", 0.0), ("?", 0.0)], unk_id=2), 2),
        (models.BPE({"a": 0}, []), None),
    ],
)
def test_the_unknown_token_of_each_kind_of_tokenizer(model, expected):
    assert unknown_id(Tokenizer(model)) == expected
