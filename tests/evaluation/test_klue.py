import re
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.scheme import IOB2
from sklearn.metrics import f1_score as sklearn_f1

from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError
from koner.evaluation.klue import char_f1, character_tags, entity_f1, klue_counts, klue_scores
from koner.inference.predictions import Prediction
from koner.labels.bio import OUTSIDE, Entity, bio_to_entities
from koner.labels.klue import KLUE
from koner.labels.scores import precision_recall_f1
from koner.tokens.alignment import align

pytestmark = pytest.mark.filterwarnings("error")

NOTHING = {"precision": 0, "recall": 0, "f1": 0, "gold": 0}
RIGHT = {"precision": 1, "recall": 1, "f1": 1, "gold": 1}
B_PS, I_PS, B_LC, I_LC, O_TAG = (KLUE.tags.index(tag) for tag in ("B-PS", "I-PS", "B-LC", "I-LC", OUTSIDE))
LC, PS = KLUE.types.index("LC"), KLUE.types.index("PS")


def prediction(text, gold, tokens):
    """A sentence with gold spans (start, end, type) and tokens (start, end, predicted tag)."""
    n = len(tokens)
    return Prediction(
        id="s1",
        text=text,
        source=None,
        gold=tuple(Entity(*span) for span in gold),
        scored_entities=(),
        offsets=tuple((start, end) for start, end, _ in tokens),
        gold_tags=(OUTSIDE,) * n,
        predicted_tags=tuple(tag for _, _, tag in tokens),
        token_scores=(1.0,) * n,
    )


@pytest.mark.parametrize(
    ("text", "tokens", "tags"),
    [
        pytest.param("서울시", [(0, 3, "B-LC")], "B-LC I-LC I-LC", id="B over several characters"),
        pytest.param("서울시", [(0, 1, "B-LC"), (1, 3, "I-LC")], "B-LC I-LC I-LC", id="I over several characters"),
        pytest.param("서울시", [(0, 1, "B-LC"), (1, 3, "B-LC")], "B-LC B-LC I-LC", id="B after B"),
        pytest.param("서울시", [(0, 3, "O")], "O O O", id="O over several characters"),
        pytest.param("서울시", [(0, 2, "B-LC")], "B-LC I-LC O", id="no token on the last character"),
        pytest.param("가 서울", [(0, 1, "O"), (1, 4, "B-LC")], "O B-LC I-LC", id="token begins with a space"),
        pytest.param("서 울시", [(0, 4, "B-LC")], "B-LC I-LC I-LC", id="token has a space inside"),
        pytest.param("서\u3000울\t시", [(0, 1, "B-LC"), (2, 3, "I-LC"), (4, 5, "O")], "B-LC I-LC O", id="other space"),
    ],
)
def test_a_token_spreads_its_tag_over_its_characters(text, tokens, tags):
    assert character_tags(prediction(text, [], tokens), KLUE) == ([OUTSIDE] * 3, tags.split())


def test_gold_tags_come_from_the_annotation_and_spaces_take_theirs_along():
    sentence = prediction("김 구는 서울", [(0, 3, "PS"), (4, 7, "LC")], [])
    assert character_tags(sentence, KLUE)[0] == ["B-PS", "I-PS", "O", "I-LC", "I-LC"]


def test_perfect_predictions_score_1():
    scores = klue_scores([prediction("서울에 간다", [(0, 2, "LC")], [(0, 2, "B-LC"), (2, 3, "O"), (4, 6, "O")])], KLUE)
    assert scores == {
        "entity_f1": 1,
        "char_f1": 1,
        "by_type": {**dict.fromkeys(KLUE.types, NOTHING), "LC": RIGHT},
    }


def test_a_particle_glued_to_the_name_costs_the_entity_and_one_character():
    sentence = prediction("스타뎀의 말", [(0, 3, "PS")], [(0, 4, "B-PS"), (5, 6, "O")])
    scores = klue_scores([sentence], KLUE)
    assert scores["entity_f1"] == 0
    assert scores["by_type"]["PS"] == {"precision": 0, "recall": 0, "f1": 0, "gold": 1}
    # O: 1 of 1 + 2 brackets found, 4 annotated. I-PS: 3 found, 2 annotated. B-PS right; the 10 other tags absent.
    assert scores["char_f1"] == pytest.approx((6 / 7 + 4 / 5 + 1 + 10) / 13)
    characters = klue_counts([sentence], KLUE).characters[0]
    assert characters[[B_PS, I_PS, O_TAG]].tolist() == [[1, 1, 1], [2, 3, 2], [3, 3, 4]]


def test_two_sentences_are_scored_together_and_counted_apart():
    sentences = [
        prediction("서울 김구", [(0, 2, "LC"), (3, 5, "PS")], [(0, 2, "B-LC"), (3, 5, "O")]),
        prediction("김구", [(0, 2, "PS")], [(0, 2, "B-PS")]),
    ]
    scores = klue_scores(sentences, KLUE)
    assert scores["entity_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["by_type"]["PS"] == pytest.approx({"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "gold": 2})
    # B-PS and I-PS: 1 of 2. O: the 4 brackets, and 2 more found. B-LC and I-LC right; the 8 other tags absent.
    assert scores["char_f1"] == pytest.approx((2 / 3 + 2 / 3 + 8 / 10 + 2 + 8) / 13)
    counts = klue_counts(sentences, KLUE)
    assert counts.entities[:, [LC, PS]].tolist() == [[[1, 1, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 1]]]
    assert counts.characters[:, [B_PS, I_LC, O_TAG]].tolist() == [
        [[0, 0, 1], [1, 1, 1], [2, 4, 2]],
        [[1, 1, 1], [0, 0, 0], [2, 2, 2]],
    ]


def test_no_entity_reaches_into_the_next_sentence():
    sentences = [prediction("서울", [(0, 2, "LC")], [(0, 2, "B-LC")]), prediction("서울", [], [(0, 2, "I-LC")])]
    assert klue_scores(sentences, KLUE)["entity_f1"] == 1
    assert klue_counts(sentences, KLUE).entities[:, LC].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_a_type_counts_for_entities_when_either_side_has_it():
    # OG is found and not annotated; the I-QT without its B makes no entity, and the three other types never occur.
    scores = klue_scores(
        [prediction("서울은 비", [(0, 2, "LC")], [(0, 2, "B-LC"), (2, 3, "B-OG"), (4, 5, "I-QT")])], KLUE
    )
    assert scores["entity_f1"] == 1 / 2
    assert scores["by_type"] == {**dict.fromkeys(KLUE.types, NOTHING), "LC": RIGHT}
    # B-OG, I-QT: found alone. O: the brackets found, 2 more annotated. B-LC and I-LC right; the 8 other tags absent.
    assert scores["char_f1"] == pytest.approx((0 + 0 + 4 / 6 + 2 + 8) / 13)


def test_without_entities_only_characters_score():
    sentences = [prediction("비", [], [(0, 1, "O")])]
    assert klue_scores(sentences, KLUE) == {"entity_f1": 0, "char_f1": 1, "by_type": dict.fromkeys(KLUE.types, NOTHING)}
    assert entity_f1(klue_counts(sentences, KLUE).entities.sum(axis=0)) == 0


def test_without_predictions_all_scores_are_0():
    assert klue_scores([], KLUE) == {"entity_f1": 0, "char_f1": 0, "by_type": dict.fromkeys(KLUE.types, NOTHING)}
    counts = klue_counts([], KLUE)
    assert (counts.entities.shape, counts.characters.shape) == ((0, 6, 3), (0, 13, 3))
    assert entity_f1(counts.entities.sum(axis=0)) == char_f1(counts.characters.sum(axis=0)) == 0


def test_summed_counts_may_have_axes_before_theirs():
    right, empty, wrong = [1, 1, 1], [0, 0, 0], [0, 1, 1]
    entities = np.array([[right, wrong, *[empty] * 4], [empty] * 6])
    assert entity_f1(entities).tolist() == [1 / 2, 0]
    characters = np.array([[right, wrong, *[empty] * 11], [empty] * 13])
    assert char_f1(characters).tolist() == pytest.approx([12 / 13, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"predicted_tags": ("O", "O")}, "2 predicted tags for 1 tokens", id="tags"),
        pytest.param({"predicted_tags": ("B-XX",)}, "unknown tag 'B-XX'", id="predicted tag"),
        pytest.param({"gold": (Entity(0, 1, "XX"),)}, "unknown tag 'B-XX'", id="gold type"),
        pytest.param({"offsets": ((0, 3),)}, "an entity or token ends after the text's 2 characters", id="token"),
        pytest.param({"gold": (Entity(1, 3, "LC"),)}, "an entity or token ends after", id="entity"),
    ],
)
def test_tags_that_fit_no_text_are_refused(change, message):
    parts = {"gold": (), "offsets": ((0, 2),), "predicted_tags": ("O",), **change}
    broken = Prediction(
        id="s1", text="서울", source=None, scored_entities=(), gold_tags=("O",), token_scores=(1.0,), **parts
    )
    with pytest.raises(KonerError, match=f"s1: {re.escape(message)}"):
        klue_scores([broken], KLUE)


@st.composite
def a_prediction(draw):
    text = draw(st.text("가나 ", max_size=12))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))))
    tags = st.sampled_from(("O", "B-PS", "I-PS", "B-LC", "I-LC", "B-QT"))
    gold = bio_to_entities(draw(st.lists(tags, min_size=len(text), max_size=len(text))))
    # Half of the tokens say what the annotation says, so that some entities are right.
    starts = {e.start: f"B-{e.label}" for e in gold}
    inside = {i: f"I-{e.label}" for e in gold for i in range(e.start + 1, e.end)}
    tokens = [(a, b, draw(st.just(starts.get(a, inside.get(a, "O"))) | tags)) for a, b in pairwise(cuts)]
    return prediction(text, [(e.start, e.end, e.label) for e in gold], tokens)


@given(st.lists(a_prediction(), min_size=1, max_size=6))
def test_scores_and_counts_agree_with_the_formula_of_the_reference(sentences):
    pairs = [character_tags(sentence, KLUE) for sentence in sentences]
    gold, predicted = (list(chain(*(["O", *pair[side], "O"] for pair in pairs))) for side in (0, 1))
    expected_entity = 0.0
    if any(tag[0] == "B" for tag in gold + predicted):
        expected_entity = seqeval_f1([gold], [predicted], average="macro", mode="strict", scheme=IOB2, zero_division=0)
    expected_char = sklearn_f1(gold, predicted, labels=list(KLUE.tags), average="macro", zero_division=True)

    scores, counts = klue_scores(sentences, KLUE), klue_counts(sentences, KLUE)
    assert (scores["entity_f1"], scores["char_f1"]) == pytest.approx((expected_entity, expected_char))
    entities, characters = counts.entities.sum(axis=0), counts.characters.sum(axis=0)
    assert (entity_f1(entities), char_f1(characters)) == pytest.approx((expected_entity, expected_char))
    for type_, row in zip(KLUE.types, entities.tolist(), strict=True):
        assert scores["by_type"][type_] == pytest.approx({**precision_recall_f1(*row), "gold": row[2]})


@given(st.lists(a_prediction(), max_size=4))
def test_counts_of_a_sentence_do_not_depend_on_its_neighbours(sentences):
    together = klue_counts(sentences, KLUE)
    for i, sentence in enumerate(sentences):
        alone = klue_counts([sentence], KLUE)
        assert (together.entities[i] == alone.entities[0]).all()
        assert (together.characters[i] == alone.characters[0]).all()


def test_perfect_token_tags_on_real_sentences_score_what_the_module_says(shared):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "klue-roberta-base", local_files_only=True)
    part = read_source(str(shared / "klue-ner" / "tsv"), "ner", None)["validation"]
    sentences = []
    for retagged in align(read_checked({"validation": part})["validation"], tokenizer, 512, 128, KLUE):
        text, tags, offsets = retagged.sentence.text, retagged.sentence.tags, retagged.windowed_text.offsets
        gold = [(e.start, e.end, e.label) for e in retagged.sentence.entities]
        tokens = [(*span, tag) for span, tag in zip(offsets, retagged.token_tags, strict=True)]
        sentences.append(prediction(text, gold, tokens))
        assert character_tags(sentences[-1], KLUE)[0] == [tag for c, tag in zip(text, tags, strict=True) if c != " "]
    scores = klue_scores(sentences, KLUE)
    assert len(sentences) == 800
    assert (round(scores["entity_f1"], 3), round(scores["char_f1"], 3)) == (0.984, 0.998)
