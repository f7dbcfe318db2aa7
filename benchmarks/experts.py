"""The models that an expert would serve: int8 as the tools of ONNX Runtime and of OpenVINO make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.openvino_runtime import quantize_by_nncf
from koner.errors import KonerError

# The packages that each way needs besides those of the project.
PACKAGES = {"expert-onnxruntime": (), "expert-openvino": ("openvino", "nncf")}
CALIBRATION_SENTENCES = 120
_FILES = {"expert-onnxruntime": "experts/dynamic-int8.onnx", "expert-openvino": "experts/nncf-int8.xml"}


def missing_packages(name: str, packages: Mapping[str, Sequence[str]] = PACKAGES) -> list[str]:
    """Return the packages that a way needs and that are not installed."""
    return [package for package in packages[name] if not find_spec(package)]


def select(names: Sequence[str] | None, packages: Mapping[str, Sequence[str]] = PACKAGES) -> list[str]:
    """Return the ways to measure: those named, or all that can run, with a line about each of the others.

    Args:
        names: The ways that the user named; None for all.
        packages: The packages that each way needs besides those of the project.

    Raises:
        KonerError: If packages that a named way needs are not installed.
    """
    selected = []
    for name in packages if names is None else names:
        if missing := missing_packages(name, packages):
            sentence = f"{name} needs packages that are not installed: pip install {' '.join(missing)}"
            if names is not None:
                raise KonerError(sentence)
            print(f"{sentence}; it is left out", flush=True)
        else:
            selected.append(name)
    return selected


def model_path(name: str, folder: Path) -> Path:
    """Return the path of a way's model below the folder of the services."""
    return folder / _FILES[name]


def prepare(name: str, folder: Path, model: Path, texts: Sequence[str]) -> None:
    """Make a way's model, unless it is there.

    Args:
        name: The way.
        folder: The folder of the services.
        model: The model folder.
        texts: The texts of the training part; the first ones calibrate the scales of activations.
    """
    path = model_path(name, folder)
    if path.exists():
        return
    # Imports torch, which no service needs.
    from benchmarks.alternative_runtimes import export_standard_operators, fuse_by_default, quantize_dynamically
    from koner.inference.tagger import Tagger

    path.parent.mkdir(exist_ok=True)
    source = path.with_name(f"{name}-fp32.onnx")
    export_standard_operators(model, source)
    if name == "expert-openvino":
        encoded = Tagger.load(model, "cpu").encode(texts[:CALIBRATION_SENTENCES])
        quantize_by_nncf(source, path, [window.input_ids for text in encoded for window in text.windows])
    else:
        fuse_by_default(source, source, model)
        quantize_dynamically(source, path)
    source.unlink()
