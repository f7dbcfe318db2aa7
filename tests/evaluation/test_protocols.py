import numpy as np
import pytest

from koner.evaluation import protocols
from koner.evaluation.bootstrap import micro_f1
from koner.evaluation.comparison import compare
from koner.evaluation.evaluate import evaluate
from koner.evaluation.protocols import PROTOCOLS, Figure, Protocol
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.klue import KLUE
from koner.labels.styles import read_styles
from koner.params import load_params
from koner.report.comparison import render_text, to_json
from koner.report.html import write_report
from koner.report.model_card import write_card


def prediction(number, gold, predicted):
    text = "서울에서 부산까지"
    tags = [tuple(entities_to_bio(entities, len(text))) for entities in (gold, predicted)]
    scored = tuple(ScoredEntity(e.start, e.end, e.label, 0.5) for e in predicted)
    offsets = tuple((i, i + 1) for i in range(len(text)))
    return Prediction(
        f"s{number}", text, None, tuple(gold), scored, offsets, *tags, (0.5,) * len(text), (0.5,) * len(predicted)
    )


SEOUL, BUSAN = Entity(0, 2, "LC"), Entity(5, 7, "LC")
A = [prediction(1, [SEOUL, BUSAN], [SEOUL]), prediction(2, [SEOUL], [SEOUL])]
B = [prediction(1, [SEOUL, BUSAN], [SEOUL, BUSAN]), prediction(2, [SEOUL], [SEOUL])]


def count_first_entities(predictions, labels):
    """Counts (sentences, 1, 3) of the first entity of each sentence."""
    rows = [[[p.gold[0] in p.predicted, bool(p.predicted), bool(p.gold)]] for p in predictions]
    return {"first": np.array(rows, dtype=np.int64)}


def score_first_entities(predictions, labels):
    return {"f1": float(micro_f1(count_first_entities(predictions, labels)["first"].sum(axis=0)))}


@pytest.fixture
def toy_protocol(monkeypatch):
    """One more entry in the table."""
    figure = Figure(
        "f1",
        "f1",
        "F1, first entity",
        title="toy F1",
        meaning="the first entity of each sentence",
        counts="first",
        statistic=micro_f1,
        compared=True,
    )
    toy = Protocol("toy", "toy", "The first entity only.", score_first_entities, count_first_entities, (figure,))
    monkeypatch.setattr(protocols, "PROTOCOLS", (*PROTOCOLS, toy))


def test_one_entry_adds_a_protocol_to_evaluation_comparison_report_and_card(toy_protocol, root, tmp_path):
    evaluation = evaluate(A, KLUE, temperature=1.0, seed=0, resamples=20)
    assert evaluation["toy"] == {"f1": 1.0}
    assert evaluation["intervals"]["toy.f1"] == {"low": 1.0, "high": 1.0}

    comparison = compare(A, B, KLUE, resamples=100)
    assert to_json(comparison)["figures"]["toy.f1"]["difference"] == 0.0
    assert "\ntoy.f1  " in render_text(comparison, show=0)

    nothing = {"slices": {}, "semeval": {}, "generalisation": {}, "history": [], "confusions": {}, "reliability": {}}
    nothing |= {"predictions": A, "styles": read_styles(None, KLUE), "params": {}}
    write_report(
        tmp_path / "report.html",
        title="t",
        evaluation=evaluation,
        **nothing,
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "toy F1" in page
    assert "The first entity only." in page

    params = load_params(root / "params.yaml").model_dump()
    write_card(tmp_path, styles=read_styles(None, KLUE), params=params, evaluation=evaluation, split={}, training={})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| the first entity of each sentence | – | – | 1.0000 | 1.0000 to 1.0000 |" in card
    assert "F1, first entity" in card


def test_the_keys_of_the_metrics_are_those_that_users_know():
    evaluation = evaluate(A, KLUE, temperature=1.0, seed=0, resamples=20)
    assert list(evaluation) == ["sentences", "entities", "wordpiece", "klue", "span", "intervals", "calibration"]
    assert list(evaluation["intervals"]) == [
        "wordpiece.f1",
        "klue.entity_f1",
        "klue.char_f1",
        "span.f1",
        "span.macro_f1",
    ]
    assert {"precision", "recall", "f1", "accuracy", "by_type"} == evaluation["wordpiece"].keys()
    assert {"entity_f1", "char_f1", "by_type"} == evaluation["klue"].keys()
    assert {"precision", "recall", "f1", "macro_f1", "by_type"} == evaluation["span"].keys()


def test_the_compared_figures_are_those_that_users_know():
    figures = compare(A, B, KLUE, resamples=100).figures
    assert list(figures) == [
        "wordpiece.f1",
        "klue.entity_f1",
        "klue.char_f1",
        "span.f1",
    ]


@pytest.mark.parametrize("page", ["metrics.md", "ko/guide.md"])
def test_the_documentation_defines_every_protocol(root, page):
    text = (root / "docs" / page).read_text(encoding="utf-8")
    for protocol in PROTOCOLS:
        assert f"\n| `{protocol.name}` | " in text
