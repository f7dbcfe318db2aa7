import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError
from koner.evaluation.calibration import reliability, score_outcomes
from koner.evaluation.error_kinds import breakdown
from koner.evaluation.evaluate import evaluate
from koner.evaluation.slices import generalisation, seen_surfaces, slices
from koner.evaluation.wordpiece import confusion, tag_pairs
from koner.inference.predictions import Prediction
from koner.inference.tagger import ScoredEntity
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.klue import KLUE
from koner.labels.styles import read_styles
from koner.report.error_cards import error_cards
from koner.report.html import write_report

SCORES = ("precision", "recall", "f1", "accuracy")
VOID = ("meta", "link", "input", "path", "use")
# By the class that has the colours of a type.
LABELS = {f"t{i}": style.label for i, style in enumerate(read_styles(None, KLUE))}
NOTHING = {
    "title": "nothing",
    **{name: {} for name in ("evaluation", "slices", "semeval", "generalisation")},
    **{name: {} for name in ("confusions", "reliability", "params")},
    **{name: [] for name in ("history", "predictions")},
    "styles": read_styles(None, KLUE),
}


def predicted(id_, text, gold, entities, source=None):
    """Return a prediction whose tokens are its characters."""
    return Prediction(
        id_,
        text,
        source,
        tuple(gold),
        tuple(entities),
        tuple((i, i + 1) for i in range(len(text))),
        tuple(entities_to_bio(gold, len(text))),
        tuple(entities_to_bio(entities, len(text))),
        (1.0,) * len(text),
        tuple(e.score**0.5 for e in entities),
    )


def with_errors(sentence, generator):
    """Return a prediction for a real sentence with random errors of all kinds."""
    entities = []
    for e in sentence.entities:
        other = KLUE.types[int(generator.integers(len(KLUE.types)))]
        outcome = generator.choice(["right", "missed", "cut", "renamed", "both"], p=[0.82, 0.05, 0.06, 0.05, 0.02])
        if outcome == "missed":
            continue
        if outcome in ("cut", "both") and e.end - e.start > 1:
            e = replace(e, end=e.end - 1)
        if outcome in ("renamed", "both"):
            e = replace(e, label=other)
        entities.append(ScoredEntity(e.start, e.end, e.label, float(generator.beta(9, 1 if outcome == "right" else 3))))
    if not sentence.entities and generator.random() < 0.2:
        entities.append(ScoredEntity(0, 2, str(generator.choice(KLUE.types)), 0.61))
    return predicted(sentence.id, sentence.text, sentence.entities, entities, sentence.source)


@pytest.fixture(scope="session")
def inputs():
    """Return the arguments that the stage evaluate passes, for the validation part of the sample corpus."""
    generator = np.random.default_rng(0)
    parts = read_checked(read_source("sample", "ner", None))
    predictions = [with_errors(s, generator) for s in parts["validation"]]
    return {
        "title": "koner on the test part",
        "evaluation": evaluate(predictions, KLUE, temperature=1.37, seed=0, resamples=50),
        "slices": slices(predictions, seen_surfaces(parts["train"]), KLUE),
        "semeval": breakdown(predictions, KLUE),
        "generalisation": generalisation({"development": predictions[::2], "test": predictions}, KLUE),
        "history": [
            {"epoch": n, "train_loss": 2 / n, "eval_loss": 1.2 / n + 0.02 * n}
            | {score: 0.8 + i / 20 - 0.4 / n - 0.02 * (n > 6) for i, score in enumerate(SCORES)}
            for n in range(1, 9)
        ],
        "confusions": {
            "tags": confusion(tag_pairs(predictions), KLUE),
            "types": confusion(tag_pairs(predictions, types_only=True), KLUE, types_only=True),
        },
        "reliability": {
            "before": reliability(*score_outcomes(predictions, calibrated=False)),
            "after": reliability(*score_outcomes(predictions)),
        },
        "predictions": predictions,
        "params": {"source": "sample", "base_model_revision": None, "lr": 0.001, "seed": 42},
    }


class Page(HTMLParser):
    """A parsed page: its elements, and the lines of its sentences with their marks."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.stack = [], []
        # A line is its side, its text, and its marks as (start, end, type, whether it is an error).
        self.lines = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.sections = [a["id"] for tag, a in self.elements if tag == "section"]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        self.elements.append((tag, attributes))
        if tag in VOID:
            return
        self.stack.append((tag, classes))
        if tag == "p" and attributes.get("lang") == "ko":
            self.lines.append([classes[0], "", []])
        if tag == "mark" and self._in("p"):
            self.lines[-1][2].append([len(self.lines[-1][1]), None, LABELS[classes[0]], "wrong" in classes])

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        opened, _ = self.stack.pop()
        assert opened == tag
        if tag == "mark" and self._in("p"):
            self.lines[-1][2][-1][1] = len(self.lines[-1][1])

    def handle_data(self, data):
        line = any(tag == "p" and classes in (["gold"], ["predicted"]) for tag, classes in self.stack)
        if line and not any("tag" in classes for _, classes in self.stack):
            self.lines[-1][1] += data

    def _in(self, tag):
        return any(opened == tag for opened, _ in self.stack)


def page_of(path, **inputs):
    write_report(path, **{**NOTHING, **inputs})
    return Page(path)


@pytest.fixture(scope="session")
def whole(inputs, tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("report") / "plots" / "report.html", **inputs)


def test_every_section_is_there_and_linked(whole):
    names = "figures epochs slices confusions calibration semeval generalisation errors params"
    assert " ".join(whole.sections) == names
    linked = [a["href"] for tag, a in whole.elements if tag == "a"]
    assert linked == ["#content", *(f"#{section}" for section in whole.sections)]
    assert "95% interval" in whole.text
    assert "best epoch: 6" in whole.text


def test_the_page_loads_nothing(whole):
    loaded = [a[key] for _, a in whole.elements for key in ("src", "href", "srcset", "data", "action") if key in a]
    assert all(address.startswith(("#", "data:")) for address in loaded)
    assert not re.search(r"https?:|@import|url\((?!data:|#)", whole.text)
    policy = next(a["content"] for _, a in whole.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    # The browser runs only the script of the page itself.
    script = re.search("<script>(.*)</script>", whole.text, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_the_file_is_small_and_always_the_same(whole, inputs, tmp_path):
    assert 50_000 < len(whole.text.encode()) < 1_500_000
    assert page_of(tmp_path / "again.html", **inputs).text == whole.text


def test_the_plots_are_svg_in_the_colours_of_the_page(whole):
    plots = re.findall(
        r'<figure class="chart" role="img" aria-label="(.*?);.*?>(<svg.*?</svg>)</figure>', whole.text, re.S
    )
    assert [label for label, _ in plots] == [
        "Loss by epoch, best epoch: 6",
        "Development scores by epoch, best epoch: 6",
        "Reliability of entity scores",
    ]
    for _, svg in plots:
        assert "currentColor" in svg
        assert "xmlns" not in svg
        # An id that is referenced exists, and only once on the page.
        for id_ in re.findall(r"(?:href=\"#|url\(#)(\w+)", svg):
            assert whole.text.count(f'id="{id_}"') == 1


def test_marks_cover_the_characters_of_their_entities(whole, inputs):
    cards = error_cards(inputs["predictions"])[:200]
    assert len(whole.lines) == 2 * len(cards)
    for card, gold, predicted_line in zip(cards, whole.lines[::2], whole.lines[1::2], strict=True):
        p = card.prediction
        assert [gold[0], predicted_line[0]] == ["gold", "predicted"]
        assert gold[1] == predicted_line[1] == p.text
        assert [tuple(m) for m in gold[2]] == [(e.start, e.end, e.label, e not in p.predicted) for e in sorted(p.gold)]
        assert [tuple(m) for m in predicted_line[2]] == [
            (e.start, e.end, e.label, e not in p.gold) for e in sorted(p.predicted)
        ]


def test_markup_in_a_sentence_is_text(tmp_path):
    text = "<script>alert(1)</script> & \"서울\"  '</p>'"
    p = predicted("<q>id</q>", text, [Entity(0, 8, "OG")], [ScoredEntity(29, 31, "LC", 0.875)], source="<i>")
    page = page_of(
        tmp_path / "report.html", predictions=[p], title="<u>", params={"source": "</script><img src=x onerror=y>"}
    )
    assert [line[1] for line in page.lines] == [text, text]
    assert [line[2] for line in page.lines] == [[[0, 8, "OG", True]], [[29, 31, "LC", True]]]
    assert not {"q", "i", "u", "img"} & {tag for tag, _ in page.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "LC 0.88" in page.text


def test_empty_input_results_in_a_page_without_sections(tmp_path):
    page = page_of(tmp_path / "report.html")
    assert page.sections == []


def test_the_page_says_that_there_are_no_errors(tmp_path):
    p = predicted("a", "서울이다", [Entity(0, 2, "LC")], [ScoredEntity(0, 2, "LC", 0.9)])
    page = page_of(tmp_path / "report.html", predictions=[p])
    assert page.sections == ["errors"]
    assert "None: all entities were predicted" in page.text
    assert page.lines == []


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        *(("sentences", "480 sentences, "), ("wordpiece", "wordpiece F1"), ("klue", "KLUE character F1")),
        *(("span", "span macro F1"), ("intervals", "percentile"), ("calibration", "Expected calibration error")),
    ],
)
def test_a_missing_figure_is_left_out(whole, inputs, tmp_path, missing, text):
    evaluation = {key: value for key, value in inputs["evaluation"].items() if key != missing}
    assert text in whole.text
    assert text not in page_of(tmp_path / "report.html", evaluation=evaluation).text


def test_the_wrong_prediction_with_the_highest_score_comes_first():
    gold, text = Entity(0, 2, "LC"), "서울시에서"
    right = ScoredEntity(0, 2, "LC", 0.99)
    predictions = [
        predicted("right", text, [gold], [right]),
        predicted("missed", text, [gold], []),
        predicted("more", text, [Entity(0, 3, "LC")], []),
        predicted("unsure", text, [gold], [ScoredEntity(0, 3, "LC", 0.4)]),
        predicted("sure", text, [gold], [ScoredEntity(0, 2, "OG", 0.8)]),
        predicted("partly", text, [gold], [right, ScoredEntity(3, 5, "TI", 0.5)]),
    ]
    assert [card.prediction.id for card in error_cards(predictions)] == ["sure", "partly", "unsure", "more", "missed"]


def test_only_the_worst_are_shown(inputs, tmp_path):
    page = page_of(tmp_path / "report.html", predictions=inputs["predictions"], worst=3)
    assert len(page.lines) == 6
    assert "the worst 3 sentences are below" in page.text


def test_small_slices_are_marked(tmp_path):
    leaf = {"gold": 29, "predicted": 30, "correct": 20, "precision": 2 / 3, "recall": 20 / 29, "f1": 40 / 59}
    leaves = {"news": {**leaf, "small": True}, "reviews": {**leaf, "gold": 31, "small": False}}
    page = page_of(tmp_path / "report.html", slices={"source": leaves, "novelty": {}})
    rows = re.findall(r"<tr><th scope=\"row\">(news|reviews)(.*?)</th>", page.text)
    assert [(name, "few" in rest) for name, rest in rows] == [("news", True), ("reviews", False)]
    assert "67.8" in page.text  # 40 / 59


def test_confusions_are_shaded_by_the_root_of_the_share_of_the_row(tmp_path):
    page = page_of(tmp_path / "report.html", confusions={"types": (np.array([[16, 9], [0, 0]]), ["PS", "O"])})
    assert re.findall(r"--v:([\d.]+)\" title=\"(.*?)\">(\d+)", page.text) == [
        ("0.8", "PS predicted as PS: 64.0% of PS", "16"),
        ("0.6", "PS predicted as O: 36.0% of PS", "9"),
    ]


def test_a_single_epoch_is_plotted(tmp_path):
    row = {"epoch": 1, "train_loss": 0.0, "eval_loss": float("nan"), "precision": 0, "recall": 0, "f1": 0}
    assert "best epoch: 1" in page_of(tmp_path / "report.html", history=[row]).text


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param({"confusions": {"tags": (np.zeros((2, 2)), ["O"])}}, "'tags' has 1 labels", id="labels"),
        pytest.param(
            {"predictions": [predicted("a", "서울", [Entity(0, 2, "LC"), Entity(1, 2, "PS")], [])]},
            "a: the entity 1:2",
            id="span",
        ),
        pytest.param({"worst": -1}, "worst: -1", id="worst"),
    ],
)
def test_invalid_input_is_reported(tmp_path, inputs, message):
    with pytest.raises(KonerError, match=message):
        page_of(tmp_path / "report.html", **inputs)
