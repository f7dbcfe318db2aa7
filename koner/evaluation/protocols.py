"""The table of evaluation protocols.

Evaluation, comparison, HTML report and model card read their figures from this table. To add a protocol or a figure,
add an entry here, and its definition to docs/metrics.md and docs/ko/guide.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from koner.evaluation.bootstrap import Counts, Statistic, macro_f1, micro_f1
from koner.evaluation.klue import char_f1, entity_f1, klue_counts, klue_scores
from koner.evaluation.span import score_spans, span_counts
from koner.evaluation.wordpiece import score_tokens, wordpiece_counts
from koner.inference.predictions import Prediction
from koner.labels.label_set import LabelSet


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a protocol.

    Attributes:
        key: The key among the protocol's scores in `metrics/evaluate.json`.
        metric: The metric in the metadata of a model card on the hub.
        card_name: The name in that metadata.
        title: The name in the HTML report; None if the report shows it only beside another figure.
        meaning: The definition in the table of the model card; None if the table does not list the figure.
        counts: The counts of the protocol that `statistic` is computed from.
        statistic: The function from summed counts to the figure; None if the figure has no confidence interval.
        compared: Whether `koner compare` shows the figure.
    """

    key: str
    metric: str
    card_name: str
    title: str | None = None
    meaning: str | None = None
    counts: str | None = None
    statistic: Statistic | None = None
    compared: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way to score predictions.

    Attributes:
        name: The key in `metrics/evaluate.json`.
        title: The name in tables of the HTML report.
        description: The definition in the HTML report.
        scores: Computes the scores: the figures by key, and `by_type`.
        counts: Computes the counts that the figures are resampled from, by name: arrays (sentences, groups, 3).
        figures: The figures, in the order of `metrics/evaluate.json`.
        depends_on_tokens: Whether the figures of two models are comparable only if both cut texts into the same tokens.
    """

    name: str
    title: str
    description: str
    scores: Callable[[Sequence[Prediction], LabelSet], dict[str, Any]]
    counts: Callable[[Sequence[Prediction], LabelSet], Mapping[str, Counts]]
    figures: tuple[Figure, ...]
    depends_on_tokens: bool = False

    def path(self, figure: Figure) -> str:
        """Return the path of a figure in `metrics/evaluate.json`, such as `span.f1`."""
        return f"{self.name}.{figure.key}"


def _klue_counts_by_name(predictions: Sequence[Prediction], labels: LabelSet) -> dict[str, Counts]:
    counts = klue_counts(predictions, labels)
    return {"entities": counts.entities, "characters": counts.characters}


WORDPIECE = Protocol(
    name="wordpiece",
    title="wordpiece",
    description="Entities of the tokens' tags, as the published recipe counts them (seqeval, micro average). The "
    "annotation is read from the tokens, too, so errors that no token boundary can express do not count.",
    scores=score_tokens,
    counts=lambda predictions, labels: {"entities": wordpiece_counts(predictions, labels)},
    figures=(
        Figure("precision", "precision", "Precision, tokens"),
        Figure("recall", "recall", "Recall, tokens"),
        Figure(
            "f1",
            "f1",
            "F1, tokens",
            title="wordpiece F1",
            meaning="tokens: entities of the tokens' tags (seqeval), as published KLUE recipes count",
            counts="entities",
            statistic=micro_f1,
            compared=True,
        ),
        Figure("accuracy", "accuracy", "Accuracy, tokens"),
    ),
    depends_on_tokens=True,
)

KLUE = Protocol(
    name="klue",
    title="KLUE",
    description="The computation of the KLUE benchmark's code: on characters without spaces, against the annotation. "
    "Entity F1 is the mean over the types that occur, character F1 the mean over all tags, including O.",
    scores=klue_scores,
    counts=_klue_counts_by_name,
    figures=(
        Figure(
            "entity_f1",
            "f1",
            "Entity F1, KLUE benchmark's count",
            title="KLUE entity F1",
            meaning="KLUE's reference code, entities: mean over the types",
            counts="entities",
            statistic=entity_f1,
            compared=True,
        ),
        Figure(
            "char_f1",
            "f1",
            "Character F1, KLUE benchmark's count",
            title="KLUE character F1",
            meaning="KLUE's reference code, characters: mean over the tags",
            counts="characters",
            statistic=char_f1,
            compared=True,
        ),
    ),
)

SPAN = Protocol(
    name="span",
    title="span",
    description="An entity is correct if its first and last character and its type agree with the annotation. F1 "
    "counts all entities alike; macro F1 is the mean over the types that occur.",
    scores=score_spans,
    counts=lambda predictions, labels: {"entities": span_counts(predictions, labels)},
    figures=(
        Figure("precision", "precision", "Precision, exact spans"),
        Figure("recall", "recall", "Recall, exact spans"),
        Figure(
            "f1",
            "f1",
            "F1, exact spans",
            title="span F1",
            meaning="**exact spans**: start, end and type agree with the annotation; all entities together",
            counts="entities",
            statistic=micro_f1,
            compared=True,
        ),
        Figure(
            "macro_f1",
            "f1",
            "F1, exact spans, mean of types",
            title="span macro F1",
            meaning="exact spans: mean over the types",
            counts="entities",
            statistic=partial(macro_f1, present_only=True),
        ),
    ),
)

PROTOCOLS: tuple[Protocol, ...] = (WORDPIECE, KLUE, SPAN)
