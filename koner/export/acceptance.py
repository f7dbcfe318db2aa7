"""The rule by which an exported model may be served instead of the trained one: its span F1 is not lower.

The parts have a few hundred sentences, where one or two entities are a tenth of a point of F1, so a fixed
limit alone would refuse models for noise. Only a loss counts: a better exported model is never refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koner.evaluation.bootstrap import micro_f1, paired
from koner.evaluation.span import span_counts
from koner.inference.predictions import Prediction
from koner.labels.label_set import LabelSet

# The loss of span F1, in points, that is always accepted.
MAX_LOSS = 0.1
# The loss that is accepted if the paired bootstrap does not distinguish the models: p is at least `SIGNIFICANCE`.
MAX_INDISTINCT_LOSS = 0.3
SIGNIFICANCE = 0.05
RULE = (
    f"a loss of at most {MAX_LOSS} points is accepted, and of at most {MAX_INDISTINCT_LOSS} if the paired bootstrap "
    f"does not distinguish the models (p of at least {SIGNIFICANCE})"
)


def compare_predictions(
    trained: Sequence[Prediction], exported: Sequence[Prediction], labels: LabelSet
) -> dict[str, Any]:
    """Compare the predictions of the exported model with those of the trained model for the same sentences.

    Args:
        trained: The predictions of the trained model.
        exported: The predictions of the exported model.
        labels: The label set of both.

    Returns:
        The span F1 of both; the change of span F1 in points (hundredths), with the 95% interval and the p-value of the
        paired bootstrap; the number of sentences; the number of entities that only one of the models predicts, and the
        number of sentences with such entities.
    """
    change = paired(span_counts(trained, labels), span_counts(exported, labels), micro_f1)
    differing_entities = [len(set(a.predicted) ^ set(b.predicted)) for a, b in zip(trained, exported, strict=True)]
    return {
        "span_f1": {"trained": change.a, "exported": change.b},
        "points": _points(change.difference),
        "interval": {"low": _points(change.low), "high": _points(change.high)},
        "p_value": change.p_value,
        "sentences": len(trained),
        "entities_differ": sum(differing_entities),
        "sentences_differ": sum(map(bool, differing_entities)),
    }


def is_accepted(change: Mapping[str, Any]) -> bool:
    """Return whether a change of span F1 on a part, as `compare_predictions` describes it, is accepted."""
    if change["points"] >= -MAX_LOSS:
        return True
    return bool(change["points"] >= -MAX_INDISTINCT_LOSS and change["p_value"] >= SIGNIFICANCE)


def describe_change(part: str, change: Mapping[str, Any]) -> str:
    """Describe a change of span F1 on a part, for a message: its size, interval, p-value and number of sentences."""
    low, high = change["interval"]["low"], change["interval"]["high"]
    return (
        f"{part} {change['points']:+.2f} (95% interval {low:+.2f} to {high:+.2f}, p {change['p_value']:.3f}, "
        f"{change['sentences']} sentences)"
    )


def _points(difference: float) -> float:
    # Rounded because a change of exactly the maximum is accepted.
    return round(100 * difference, 6)
