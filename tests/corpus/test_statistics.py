from koner.corpus.sentences import Sentence
from koner.corpus.statistics import CorpusStatistics
from koner.labels.bio import Entity
from koner.labels.klue import KLUE

SENTENCES = [
    Sentence("a", "서울에", "news", ("B-LC", "I-LC", "O"), (Entity(0, 2, "LC"),)),
    Sentence("b", "😀", None, ("O",), ()),
    Sentence("c", "김 김", "reviews", ("B-PS", "O", "B-PS"), (Entity(0, 1, "PS"), Entity(2, 3, "PS"))),
    Sentence("d", "서울에", "news", ("O", "O", "O"), ()),
]


def test_sentences_are_counted_as_they_pass():
    statistics = CorpusStatistics()
    passing = statistics.count(SENTENCES)
    assert next(passing) == SENTENCES[0]
    assert list(passing) == SENTENCES[1:]
    assert statistics.metrics(KLUE) == {
        "sentences": 4,
        "characters": 10,
        "entities": {"all": 3, "DT": 0, "LC": 1, "OG": 0, "PS": 2, "QT": 0, "TI": 0},
        "sources": {"news": 2, "reviews": 1},
        "duplicates": 1,
    }


def test_of_no_sentence_there_is_nothing_to_count():
    assert CorpusStatistics().metrics(KLUE)["sentences"] == CorpusStatistics().metrics(KLUE)["duplicates"] == 0
