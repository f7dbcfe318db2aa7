"""The export of a trained model for serving: ONNX at the precision that keeps span F1, with calibrated scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from koner.corpus.parts import DEVELOPMENT
from koner.errors import KonerError
from koner.export.onnx import Precision, export_onnx
from koner.export.temperature import fit_temperature
from koner.inference.decoding import DecodingSettings
from koner.inference.predictions import Prediction, predict
from koner.inference.runtimes import ONNX_FILE
from koner.inference.tagger import Tagger, store_settings
from koner.labels.scores import span_scores
from koner.storage.outputs import atomic_directory
from koner.tokens.alignment import AlignedSentence

# The maximal change of span F1 on each part, in points.
MAX_F1_CHANGE = 0.1
_CANDIDATES: dict[str, tuple[Precision, ...]] = {"auto": ("int8", "fp32"), "int8": ("int8",), "fp32": ("fp32",)}


@dataclass(frozen=True)
class _ExportedModel:
    """An exported model that predicts almost as the trained one does.

    Attributes:
        tagger: The tagger of the exported model.
        precision: Its precision.
        changes: The comparison with the trained model on each part.
        rejected: The comparisons of the rejected precisions on each part, by precision.
    """

    tagger: Tagger
    precision: Precision
    changes: dict[str, Any]
    rejected: dict[str, Any]


def export(
    trained: Path,
    parts: Mapping[str, Sequence[AlignedSentence]],
    folder: Path,
    serve_precision: Literal["auto", "int8", "fp32"],
    legal: bool = True,
) -> dict[str, Any]:
    """Export a trained model for serving.

    The folder stays a model folder of transformers, with an ONNX file beside the weights. Its config.json also holds
    the settings of decoding, with a temperature that is fitted to the predictions of the ONNX file.

    Args:
        trained: The folder of the trained model.
        parts: The sentences of each part that the models are compared on; the temperature is fitted on `development`.
        folder: The folder to write.
        serve_precision: The precision of the ONNX file; `auto` is int8 if that changes the span F1 of the trained
            model (PyTorch, fp32) by at most 0.1 points on every part, up or down, else fp32.
        legal: Whether decoding is constrained to valid BIO sequences.

    Returns:
        The metrics of the stage export.

    Raises:
        KonerError: If the requested precision changes span F1 too much; then no folder is written.
    """
    model = Tagger.load(trained, "cpu")
    model.settings = DecodingSettings(legal=legal)
    with atomic_directory(folder) as draft:
        shutil.copytree(trained, draft, dirs_exist_ok=True)
        exported = _export_checked(model, trained, parts, draft, _CANDIDATES[serve_precision])
        temperature = fit_temperature(exported.tagger, parts[DEVELOPMENT])
        store_settings(draft, replace(model.settings, temperature=temperature))
        sizes = {
            "trained": sum(path.stat().st_size for path in draft.glob("*.safetensors")),
            "exported": (draft / ONNX_FILE).stat().st_size,
        }
    return {
        "precision": exported.precision,
        "from_trained": exported.changes,
        "refused": exported.rejected,
        "megabytes": {form: size / 1e6 for form, size in sizes.items()},
        "temperature": temperature,
    }


def _export_checked(
    model: Tagger,
    trained: Path,
    parts: Mapping[str, Sequence[AlignedSentence]],
    draft: Path,
    candidates: Sequence[Precision],
) -> _ExportedModel:
    """Write the ONNX file with the first precision that does not change span F1 too much."""
    reference = {part: predict(model, sentences) for part, sentences in parts.items()}
    rejected: dict[str, Any] = {}
    for precision in candidates:
        export_onnx(trained, draft / ONNX_FILE, precision)
        tagger = Tagger.load(draft, "cpu")
        tagger.settings = model.settings
        changes = {part: compare_predictions(reference[part], predict(tagger, parts[part])) for part in parts}
        worst = max(changes, key=lambda part: abs(changes[part]["points"]))
        if abs(changes[worst]["points"]) <= MAX_F1_CHANGE:
            return _ExportedModel(tagger, precision, changes, rejected)
        rejected[precision] = changes
    raise KonerError(
        f"serve_precision: {precision} changes span F1 on the {worst} part by {changes[worst]['points']:+.2f} "
        f"points, and at most {MAX_F1_CHANGE} is allowed{'; set auto or fp32' if precision == 'int8' else ''}"
    )


def compare_predictions(trained: Sequence[Prediction], exported: Sequence[Prediction]) -> dict[str, Any]:
    """Compare the predictions of the exported model with those of the trained model for the same sentences.

    Args:
        trained: The predictions of the trained model.
        exported: The predictions of the exported model.

    Returns:
        The span F1 of both; the change of span F1 in points (hundredths); the number of entities that only one of
        the models predicts, and the number of sentences with such entities.
    """
    f1 = [span_scores((p.gold, p.predicted) for p in predictions)["f1"] for predictions in (trained, exported)]
    differing_entities = [len(set(a.predicted) ^ set(b.predicted)) for a, b in zip(trained, exported, strict=True)]
    return {
        "span_f1": dict(zip(("trained", "exported"), f1, strict=True)),
        # Rounded because a change of exactly 0.1 points is allowed.
        "points": round(100 * (f1[1] - f1[0]), 6),
        "entities_differ": sum(differing_entities),
        "sentences_differ": sum(map(bool, differing_entities)),
    }
