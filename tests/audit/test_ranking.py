import numpy as np
import pytest

from koner.audit.out_of_sample import OutOfSample, read_out_of_sample, write_out_of_sample
from koner.audit.ranking import find_candidates
from koner.inference.decoding import ScoredEntity
from koner.labels.bio import bio_to_entities
from koner.labels.label_set import LabelSet

pytest.importorskip("cleanlab")

LABELS = LabelSet.of(["LC", "OG"])
TEXT = "가나다라"


def prediction(id_, gold, predicted, confidence):
    """A sentence of four tokens, of a character each, whose predicted tags have the probability `confidence`."""
    probabilities = np.full((4, len(LABELS.tags)), (1 - confidence) / (len(LABELS.tags) - 1), np.float32)
    gold_ids, predicted_ids = (np.array([LABELS.tag_to_id[tag] for tag in tags.split()]) for tags in (gold, predicted))
    probabilities[np.arange(4), predicted_ids] = confidence
    entities = tuple(ScoredEntity(e.start, e.end, e.label, confidence) for e in bio_to_entities(predicted.split()))
    offsets = tuple((i, i + 1) for i in range(4))
    gold_entities = tuple(bio_to_entities(gold.split()))
    return OutOfSample(id_, TEXT, gold_entities, entities, offsets, gold_ids, predicted_ids, probabilities)


PREDICTIONS = [
    prediction("type", "B-LC I-LC O O", "B-OG I-OG O O", 0.6),
    prediction("missed", "O O O O", "B-OG O O O", 0.9),
    prediction("equal", "B-LC O O O", "B-LC O O O", 0.9),
    prediction("spurious", "O O B-LC O", "O O O O", 0.7),
    prediction("boundary", "B-LC I-LC O O", "B-LC O O O", 0.8),
]


def test_what_differs_is_ranked_by_the_quality_of_its_tokens():
    found = find_candidates(PREDICTIONS)
    assert [(c.id, c.kind) for c in found] == [
        ("missed", "missed"),
        ("boundary", "boundary"),
        ("spurious", "spurious"),
        ("type", "type"),
    ]
    others = len(LABELS.tags) - 1
    wanted = [1 - (1 - confidence) / others for confidence in (0.9, 0.8, 0.7, 0.6)]
    assert [c.score for c in found] == pytest.approx(wanted)


def test_predictions_are_stored(tmp_path):
    write_out_of_sample(tmp_path / "p.parquet", PREDICTIONS)
    stored = list(read_out_of_sample(tmp_path / "p.parquet"))
    assert [(p.id, p.text, p.gold, p.predicted, p.offsets) for p in stored] == [
        (p.id, p.text, p.gold, p.predicted, p.offsets) for p in PREDICTIONS
    ]
    assert np.array_equal(stored[0].probabilities, PREDICTIONS[0].probabilities)
    assert find_candidates(stored) == find_candidates(PREDICTIONS)
