"""OpenVINO as a runtime, and models quantized for it by NNCF; both packages are imported on use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from koner.inference.runtimes import INPUTS, OUTPUT


class OpenVinoRuntime:
    """OpenVINO with an ONNX file or its own format; floating-point operations use `precision` (f32, bf16)."""

    batch_tokens = 512

    def __init__(self, path: Path, threads: int, precision: str = "f32") -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.description = f"OpenVINO {precision}"
        self._model = openvino.Core().compile_model(str(path), "CPU", settings)

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the logits (batch, tokens, labels)."""
        outputs = self._model(dict(zip(INPUTS, (input_ids, attention_mask), strict=True)))
        return np.asarray(outputs[OUTPUT], np.float32)


def quantize_by_nncf(source: Path, path: Path, windows: Sequence[Sequence[int]]) -> None:
    """Quantize an ONNX file to int8 with NNCF's preset for transformers, and write it in OpenVINO's format.

    Args:
        source: The ONNX file, with standard operators only.
        path: The file to write, with the suffix `.xml`; the weights are written beside it.
        windows: The token ids of the windows that the scales of activations are calibrated on.
    """
    import nncf
    import openvino

    ids = [np.array([window], np.int64) for window in windows]
    inputs = nncf.Dataset([dict(zip(INPUTS, (row, np.ones_like(row)), strict=True)) for row in ids])
    model = openvino.Core().read_model(source)
    quantized = nncf.quantize(
        model,
        inputs,
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(windows),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)
