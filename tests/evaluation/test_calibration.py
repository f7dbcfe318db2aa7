import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

from koner.corpus.checks import RawSentence, check
from koner.encoder.base_model import prepare_base_model
from koner.evaluation.calibration import (
    RELIABILITY_COLUMNS,
    calibration,
    calibration_error,
    reliability,
    score_outcomes,
)
from koner.export.temperature import fit_temperature
from koner.inference.predictions import Prediction, predict
from koner.inference.tagger import ScoredEntity, Tagger, store_settings
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.params import load_params
from koner.tokens.alignment import align
from koner.training.model import build_model
from tests.inference.trained_model import LINES, write_trained_model


def prediction(gold, entities, uncalibrated):
    return Prediction("1", "가나다라마바사", None, gold, entities, (), (), (), (), uncalibrated)


def test_the_error_is_the_gap_between_score_and_share_right_weighed_by_count():
    scores = np.array([0.95, 0.95, 0.95, 0.95, 0.55])
    right = np.array([True, True, False, False, True])
    # Four entities of score 0.95 of which half are right, one of 0.55 that is right.
    assert calibration_error(scores, right) == pytest.approx(0.8 * 0.45 + 0.2 * 0.45)


def test_honest_scores_have_no_error():
    assert calibration_error(np.array([0.5, 0.5, 1.0]), np.array([True, False, True])) == 0


def test_without_entities_there_is_no_error_and_no_row():
    empty = np.array([]), np.array([], bool)
    assert calibration_error(*empty) == 0
    assert reliability(*empty) == []


def test_rows_hold_bounds_counts_mean_score_and_share_right():
    rows = reliability(np.array([0.12, 0.18, 1.0]), np.array([False, True, True]))
    assert all(tuple(row) == RELIABILITY_COLUMNS for row in rows)
    assert rows == [
        {"from": 0.1, "to": 0.2, "entities": 2, "score": 0.15, "right": 0.5},
        {"from": 0.9, "to": 1.0, "entities": 1, "score": 1.0, "right": 1.0},
    ]


def test_an_entity_is_right_when_its_characters_and_type_are():
    gold = (Entity(0, 2, "LC"), Entity(3, 5, "PS"))
    entities = (ScoredEntity(0, 2, "LC", 0.9), ScoredEntity(3, 5, "OG", 0.8), ScoredEntity(6, 7, "QT", 0.7))
    scores, right = score_outcomes([prediction(gold, entities, (0.99, 0.98, 0.97))])
    assert scores.tolist() == [0.9, 0.8, 0.7]
    assert right.tolist() == [True, False, False]
    assert score_outcomes([prediction(gold, entities, (0.99, 0.98, 0.97))], calibrated=False)[0].tolist() == [
        0.99,
        0.98,
        0.97,
    ]


def test_the_figures_say_whether_the_temperature_helps():
    entities = (ScoredEntity(0, 2, "LC", 0.6), ScoredEntity(3, 5, "OG", 0.6))
    figures = calibration([prediction((Entity(0, 2, "LC"),), entities, (0.95, 0.95))], 2.0)
    assert figures["expected_calibration_error"] == {"before": pytest.approx(0.45), "after": pytest.approx(0.1)}
    assert figures["lowered"] is True


@pytest.fixture(scope="module")
def overconfident(root, tmp_path_factory):
    """A random tagger with its logits blown up: near-certain of entities that are hardly ever right."""
    small = {"layers": 1, "hidden_size": 32, "heads": 2, "vocab_min_count": 3, "base_model": "scratch"}
    params = load_params(root / "params.yaml").model_copy(update=small)
    lines = (root / "koner/resources/sample/train.news.txt").read_text(encoding="utf-8").splitlines()[:60]
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(lines)]
    folder = tmp_path_factory.mktemp("overconfident")
    prepare_base_model(params, sentences, folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model = build_model(folder / "base", 0.1, KLUE)
    model.classifier.weight.data *= 100
    model.save_pretrained(folder / "ner")
    tokenizer.save_pretrained(folder / "ner")
    return folder / "ner", align(sentences, tokenizer, params.max_length, params.stride, KLUE)


def test_the_fitted_temperature_lowers_the_error_and_leaves_the_entities(overconfident):
    folder, sentences = overconfident
    before = Tagger.load(folder)
    temperature = fit_temperature(before, sentences)
    assert temperature > 1.5
    was = predict(before, sentences)
    store_settings(folder, replace(before.settings, temperature=temperature))
    now = predict(Tagger.load(folder), sentences)
    assert [p.predicted for p in now] == [p.predicted for p in was]
    figures = calibration(now, temperature)
    assert figures["lowered"]
    assert [p.uncalibrated for p in now] == [tuple(e.score for e in p.scored_entities) for p in was]
    assert json.loads((folder / "config.json").read_text())["koner_temperature"] == temperature


def test_a_fit_to_noisier_sentences_lowers_the_scores_and_gives_the_same_temperature_each_time(root, tmp_path):
    _, folder, sentences = write_trained_model(root, tmp_path, LINES * 10)
    tagger = Tagger.load(folder, "cpu", 1)
    without, little, much, again = (fit_temperature(tagger, sentences, noise) for noise in (0.0, 0.05, 0.2, 0.2))
    assert without < little < much == again


def test_too_few_entities_leave_the_scores_as_they_are(overconfident):
    assert fit_temperature(Tagger.load(overconfident[0]), []) == 1.0
