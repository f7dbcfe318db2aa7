import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koner.corpus.checks import RawSentence, check
from koner.corpus.inline import parse_inline
from koner.evaluation.slices import SeenSurfaces, generalisation, seen_surfaces, slices
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import bio_to_entities
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores_by_type

pytestmark = pytest.mark.filterwarnings("error")

NOTHING = {"gold": 0, "predicted": 0, "correct": 0, "precision": 0, "recall": 0, "f1": 0, "small": True}
NONE_SEEN = SeenSurfaces({})
SENTENCE_TAGS = st.lists(st.tuples(*[st.sampled_from(["B-PS", "I-PS", "B-LC", "I-LC", "O"])] * 2), max_size=50)


def prediction_of(text, gold, entities, source=None):
    scored = tuple(ScoredEntity(e.start, e.end, e.label, 0.9) for e in entities)
    return Prediction("id", text, source, tuple(gold), scored, (), (), (), ())


def prediction(gold, predicted, source=None):
    text, entities = parse_inline(gold)
    assert parse_inline(predicted)[0] == text
    return prediction_of(text, entities, parse_inline(predicted)[1], source)


def sentence(annotated):
    return check(RawSentence("file:1", "id", annotated=annotated))


def leaf(gold, predicted, correct, precision, recall, f1):
    counts = {"gold": gold, "predicted": predicted, "correct": correct}
    return pytest.approx({**counts, "precision": precision, "recall": recall, "f1": f1, "small": True})


@pytest.fixture
def scores():
    seen = seen_surfaces([sentence("<서울:LC>"), sentence("<한강:LC>과 <한강:OG>")])
    return slices(
        [
            prediction(
                "<한강:PS>의 다리는 <십이:QT>개이고 넓다고 했다.", "<한강:PS>의 다리는 <십이개:QT>이고 넓다고 했다."
            ),
            prediction("<서울:LC>에서 <김철수:PS>가", "<서울:OG>에서 <김철수:PS>가", "news"),
        ],
        seen,
        KLUE,
    )


def test_by_type(scores):
    assert scores["type"] == {
        "DT": NOTHING,
        "LC": leaf(1, 0, 0, 0, 0, 0),
        "OG": leaf(0, 1, 0, 0, 0, 0),
        "PS": leaf(2, 2, 2, 1, 1, 1),
        "QT": leaf(1, 1, 0, 0, 0, 0),
        "TI": NOTHING,
    }


def test_by_source(scores):
    half = leaf(2, 2, 1, 1 / 2, 1 / 2, 1 / 2)
    assert scores["source"] == {"news": half, "unknown": half}


def test_an_entity_counts_in_the_slice_of_its_own_length(scores):
    # Of 서울, 한강, 십이 the tagger found 서울 (of another type) and 한강; of 김철수 it found that and 십이개.
    assert scores["entity_length"] == {"2": leaf(3, 2, 1, 1 / 2, 1 / 3, 2 / 5), "3": leaf(1, 2, 1, 1 / 2, 1, 2 / 3)}


def test_by_sentence_length(scores):
    half = leaf(2, 2, 1, 1 / 2, 1 / 2, 1 / 2)
    assert scores["sentence_length"] == {"<20": half, "20-39": half}


def test_by_novelty(scores):
    assert scores["novelty"] == {
        "seen": leaf(1, 0, 0, 0, 0, 0),
        "seen as another type": leaf(1, 2, 1, 1 / 2, 1, 2 / 3),
        "unseen": leaf(2, 2, 1, 1 / 2, 1 / 2, 1 / 2),
    }


def test_the_order_is_that_of_types_names_and_bands(scores):
    assert list(scores) == ["type", "source", "entity_length", "sentence_length", "novelty"]
    assert [list(by) for by in scores.values()] == [
        list(KLUE.types),
        ["news", "unknown"],
        ["2", "3"],
        ["<20", "20-39"],
        ["seen", "seen as another type", "unseen"],
    ]


def test_named_sources_stand_in_order_of_their_names_before_the_unknown():
    scores = slices([prediction("<가:PS>", "가", source) for source in (None, "wiki", "zine", "news")], NONE_SEEN, KLUE)
    assert list(scores["source"]) == ["news", "wiki", "zine", "unknown"]


@pytest.mark.parametrize(
    ("length", "band"),
    [(1, "1"), (2, "2"), (3, "3"), (4, "4-5"), (5, "4-5"), (6, "6-9"), (9, "6-9"), (10, "10+"), (99, "10+")],
)
def test_bands_of_entity_lengths(length, band):
    assert list(slices([prediction(f"<{'가' * length}:PS>", "가" * length)], NONE_SEEN, KLUE)["entity_length"]) == [
        band
    ]


@pytest.mark.parametrize(
    ("length", "band"),
    [
        *[(1, "<20"), (19, "<20"), (20, "20-39"), (39, "20-39"), (40, "40-79"), (79, "40-79")],
        *[(80, "80-159"), (159, "80-159"), (160, "160+"), (999, "160+")],
    ],
)
def test_bands_of_sentence_lengths(length, band):
    rest = "나" * (length - 1)
    assert list(slices([prediction("<가:PS>" + rest, "가" + rest)], NONE_SEEN, KLUE)["sentence_length"]) == [band]


def test_a_surface_seen_with_the_type_and_another_is_seen():
    seen = seen_surfaces([sentence("<한강:LC>"), sentence("<한강:OG>")])
    assert [seen.novelty("한강", type_) for type_ in ("LC", "OG", "PS")] == ["seen", "seen", "seen as another type"]
    assert seen.novelty("한", "LC") == "unseen"


def test_text_outside_entities_is_not_seen():
    assert seen_surfaces([sentence("서울과 <한강:LC>")]).novelty("서울", "LC") == "unseen"


@pytest.mark.parametrize(("count", "small"), [(29, True), (30, False)])
def test_fewer_than_30_gold_entities_are_few(count, small):
    scores = slices([prediction("<가:PS>", "가")] * count, NONE_SEEN, KLUE)
    assert scores["type"]["PS"]["small"] is small


@pytest.mark.parametrize("predictions", [[], [prediction("가", "가", "news")]])
def test_of_nothing_the_types_are_left(predictions):
    assert slices(predictions, NONE_SEEN, KLUE) == {
        "type": dict.fromkeys(KLUE.types, NOTHING),
        "source": {},
        "entity_length": {},
        "sentence_length": {},
        "novelty": {},
    }


@settings(deadline=None)
@given(st.lists(SENTENCE_TAGS))
def test_the_slices_of_each_kind_add_up_to_the_whole(tags):
    predictions = [
        prediction_of("가" * len(pairs), bio_to_entities([g for g, _ in pairs]), bio_to_entities([p for _, p in pairs]))
        for pairs in tags
    ]
    scores = slices(predictions, SeenSurfaces({"가": frozenset({"PS"})}), KLUE)
    assert json.loads(json.dumps(scores)) == scores
    gold = sum(len(p.gold) for p in predictions)
    predicted = sum(len(p.scored_entities) for p in predictions)
    correct = sum(len(set(p.gold) & set(p.predicted)) for p in predictions)
    for by in scores.values():
        for name, whole in (("gold", gold), ("predicted", predicted), ("correct", correct)):
            assert sum(figures[name] for figures in by.values()) == whole
    by_type = span_scores_by_type(((p.gold, p.predicted) for p in predictions), KLUE)
    for type_ in KLUE.types:
        assert by_type[type_].items() <= scores["type"][type_].items()


def test_generalisation_compares_predicted_types_with_gold():
    right, wrong = prediction("<가:PS>", "<가:PS>"), prediction("<가:PS>", "<가:LC>")
    comparison = generalisation({"train": [right] * 10, "test": [right] * 5 + [wrong] * 5}, KLUE)
    assert list(comparison) == ["train", "test"]
    none = dict.fromkeys(KLUE.types, 0)
    assert comparison["train"] == {
        "counts": {"gold": none | {"PS": 10}, "predicted": none | {"PS": 10}},
        "share": {"gold": none | {"PS": 1}, "predicted": none | {"PS": 1}},
        "divergence": {"gold_predicted": 0},
        "homogeneity": None,
        "precision": 1,
        "recall": 1,
        "f1": 1,
    }
    test = comparison["test"]
    assert test["counts"]["predicted"] == none | {"LC": 5, "PS": 5}
    assert test["share"]["predicted"] == none | {"LC": 0.5, "PS": 0.5}
    # Of (1, 0) and (1/2, 1/2), the mean being (3/4, 1/4): (log2(4/3) + log2(2/3) / 2 + log2(2) / 2) / 2.
    assert test["divergence"] == {"gold_predicted": 0.311278}
    # Expected 2.5 and 7.5 in each, every one missed by 2.5, less 0.5 (Yates): 2 · 4/2.5 + 2 · 4/7.5.
    assert test["homogeneity"]["chi2"] == 4.2667
    assert (test["precision"], test["recall"], test["f1"]) == (0.5, 0.5, 0.5)


def test_generalisation_of_a_part_in_which_nothing_is_found():
    test = generalisation({"test": [prediction("<가:PS>", "가")]}, KLUE)["test"]
    assert test["divergence"] == {"gold_predicted": 1}
    assert (test["homogeneity"], test["precision"], test["recall"], test["f1"]) == (None, 0, 0, 0)
