"""The export of a trained model for serving: ONNX at the precision that keeps span F1, with calibrated scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from koner.corpus.parts import DEVELOPMENT
from koner.errors import KonerError
from koner.export.acceptance import RULE, compare_predictions, describe_change, is_accepted
from koner.export.onnx import Precision, export_onnx
from koner.export.temperature import fit_temperature
from koner.inference.decoding import DecodingSettings
from koner.inference.predictions import predict
from koner.inference.runtimes import ONNX_FILE
from koner.inference.tagger import Tagger, store_settings
from koner.storage.outputs import atomic_directory
from koner.tokens.alignment import AlignedSentence

# In the order of their speed.
_CANDIDATES: dict[str, tuple[Precision, ...]] = {
    "auto": ("int8", "int8-dynamic", "fp32"),
    "int8": ("int8", "int8-dynamic"),
    "fp32": ("fp32",),
}


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
    samples: Sequence[AlignedSentence],
    folder: Path,
    serve_precision: Literal["auto", "int8", "fp32"],
    legal: bool = True,
    calibration_noise: float = 0.0,
) -> dict[str, Any]:
    """Export a trained model for serving.

    The folder stays a model folder of transformers, with an ONNX file beside the weights. Its config.json also holds
    the settings of decoding, with a temperature that is fitted to the predictions of the ONNX file.

    Args:
        trained: The folder of the trained model.
        parts: The sentences of each part that the models are compared on; the temperature is fitted on `development`.
        samples: Sentences of the training part, on which the ranges of activations are measured for int8.
        folder: The folder to write.
        serve_precision: The precision of the ONNX file. `int8` is int8 with scales that are measured beforehand or, if
            that is refused, with scales that are computed at run time; `auto` is the same or, if both are refused,
            fp32. A precision is refused if its span F1 is lower than that of the trained model (PyTorch, fp32) on any
            part, by the rule of `koner.export.acceptance`.
        legal: Whether decoding is constrained to valid BIO sequences.
        calibration_noise: The share of the tokens of `development` that are random when the temperature is fitted.

    Returns:
        The metrics of the stage export.

    Raises:
        KonerError: If the requested precision lowers span F1 too much; then no folder is written.
    """
    model = Tagger.load(trained, "cpu")
    model.settings = DecodingSettings(legal=legal)
    with atomic_directory(folder) as draft:
        shutil.copytree(trained, draft, dirs_exist_ok=True)
        exported = _export_checked(model, trained, parts, samples, draft, _CANDIDATES[serve_precision])
        temperature = fit_temperature(exported.tagger, parts[DEVELOPMENT], calibration_noise)
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
    samples: Sequence[AlignedSentence],
    draft: Path,
    candidates: Sequence[Precision],
) -> _ExportedModel:
    """Write the ONNX file with the first precision that does not lower span F1 too much."""
    reference = {part: predict(model, sentences) for part, sentences in parts.items()}
    windows = [window.input_ids for sample in samples for window in sample.windowed_text.windows]
    rejected: dict[str, Any] = {}
    for precision in candidates:
        export_onnx(trained, draft / ONNX_FILE, precision, windows)
        tagger = Tagger.load(draft, "cpu")
        tagger.settings = model.settings
        changes = {
            part: compare_predictions(reference[part], predict(tagger, sentences), model.label_set)
            for part, sentences in parts.items()
        }
        if all(map(is_accepted, changes.values())):
            return _ExportedModel(tagger, precision, changes, rejected)
        rejected[precision] = changes
    losses = "; ".join(describe_change(part, change) for part, change in changes.items() if not is_accepted(change))
    raise KonerError(
        f"serve_precision: {precision} lowers span F1, in points: {losses}; {RULE}"
        f"{'' if precision == 'fp32' else '; set auto or fp32'}"
    )
