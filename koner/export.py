"""The served form of a trained model: as fast as its answers allow, with scores that are probabilities."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from koner.alignment import Retagged
from koner.calibration import fit_outside_bias, fit_temperature
from koner.decoding import DecodingSettings
from koner.errors import KonerError
from koner.onnx_export import Precision, export_onnx
from koner.outputs import whole_folder
from koner.predictions import Prediction, predict
from koner.runtime import ONNX_FILE
from koner.scoring import span_scores
from koner.tagger import Tagger, store_settings

# Points of span F1, on each part.
MOST_POINTS = 0.1
DEVELOPMENT = "development"
_TRIED: dict[str, tuple[Precision, ...]] = {"auto": ("int8", "fp32"), "int8": ("int8",), "fp32": ("fp32",)}


def export(
    trained: Path,
    parts: Mapping[str, Sequence[Retagged]],
    folder: Path,
    serve_precision: Literal["auto", "int8", "fp32"],
    legal: bool = True,
    outside_bias: bool = True,
) -> dict[str, Any]:
    """Writes the trained model to `folder` as it is served; gives the figures of `metrics/export.json`.

    The folder stays a plain transformers model, with an ONNX file beside the weights, and in its configuration how its
    logits are decoded: whether by the rules of BIO (`legal`), the bias on O that was fitted to the trained model (if
    `outside_bias`), and the temperature, fitted to what that file gives; both on the part `development`. `auto` takes
    int8 where its span F1 on each of the parts is at most 0.1 point from the trained model's (PyTorch, fp32), above or
    below, else fp32.
    Raises `KonerError` where the precision that is asked for differs by more, and leaves no folder behind.
    """
    model = Tagger.load(trained, "cpu")
    model.settings = DecodingSettings(legal=legal)
    if outside_bias:
        model.settings = replace(model.settings, outside_bias=fit_outside_bias(model, parts[DEVELOPMENT]))
    reference = {part: predict(model, sentences) for part, sentences in parts.items()}
    refused: dict[str, Any] = {}
    with whole_folder(folder) as draft:
        shutil.copytree(trained, draft, dirs_exist_ok=True)
        for precision in _TRIED[serve_precision]:
            export_onnx(trained, draft / ONNX_FILE, precision)
            tagger = Tagger.load(draft, "cpu")
            tagger.settings = model.settings
            found = {part: difference(reference[part], predict(tagger, parts[part])) for part in parts}
            worst = max(found, key=lambda part: abs(found[part]["points"]))
            if abs(found[worst]["points"]) <= MOST_POINTS:
                break
            refused[precision] = found
        else:
            raise KonerError(
                f"serve_precision: {precision} changes span F1 on the {worst} part by {found[worst]['points']:+.2f} "
                f"points, and at most {MOST_POINTS} is allowed{'; set auto or fp32' if precision == 'int8' else ''}"
            )
        temperature = fit_temperature(tagger, parts[DEVELOPMENT])
        store_settings(draft, replace(model.settings, temperature=temperature))
        sizes = {
            "trained": sum(path.stat().st_size for path in draft.glob("*.safetensors")),
            "exported": (draft / ONNX_FILE).stat().st_size,
        }
    return {
        "precision": precision,
        "from_trained": found,
        "refused": refused,
        "megabytes": {form: size / 1e6 for form, size in sizes.items()},
        "temperature": temperature,
        "outside_bias": model.settings.outside_bias,
    }


def difference(trained: Sequence[Prediction], exported: Sequence[Prediction]) -> dict[str, Any]:
    """How far what is served is from what was trained, over predictions for the same sentences.

    The span F1 of both, the points (hundredths) by which the exported model's is above the trained model's, and how
    many entities only one of the two found, of how many sentences.
    """
    f1 = [span_scores((p.gold, p.predicted) for p in predictions)["f1"] for predictions in (trained, exported)]
    differ = [len(set(a.predicted) ^ set(b.predicted)) for a, b in zip(trained, exported, strict=True)]
    return {
        "span_f1": dict(zip(("trained", "exported"), f1, strict=True)),
        # Rounded, so that 0.1 is 0.1.
        "points": round(100 * (f1[1] - f1[0]), 6),
        "entities_differ": sum(differ),
        "sentences_differ": sum(map(bool, differ)),
    }
