"""The forms of a model that other tools make, for `runtimes.py` to compare the project's own with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from transformers import AutoModelForTokenClassification

from koner.runtime import TorchRuntime
from koner.tagger import Tagger

# Weights of seven bits, each output unit with a scale: without VNNI the products of eight-bit ones overflow.
_WEIGHTS = {
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "reduce_range": True,
    "op_types_to_quantize": ["MatMul"],
}


class BFloat16(TorchRuntime):
    """PyTorch with weights and activations in bfloat16."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__(folder, "cpu", threads)
        self._model = self._model.bfloat16()


class OpenVino:
    """An ONNX file run by OpenVINO, which computes what is not in integers in `precision` (f32, bf16)."""

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
        found = self._model({"input_ids": input_ids, "attention_mask": attention_mask})
        return np.asarray(found["logits"], np.float32)


class _Inputs(CalibrationDataReader):
    """Sentences, one at a time, as a model's inputs."""

    def __init__(self, tagger: Tagger, texts: Sequence[str]) -> None:
        self._windows = iter([window for text in tagger.encode(texts) for window in text.windows])

    def get_next(self) -> dict[str, np.ndarray] | None:
        window = next(self._windows, None)
        if window is None:
            return None
        ids = np.array([window.input_ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def plain(folder: Path, path: Path) -> None:
    """Writes a model as an ONNX file of standard operators alone, as OpenVINO needs it."""
    model = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    ids = torch.ones((2, 8), dtype=torch.int64)
    names = ["input_ids", "attention_mask", "logits"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            (ids, ids),
            path,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
            opset_version=17,
            dynamo=False,
        )


def dynamic_int8(source: Path, path: Path) -> None:
    """Makes an ONNX file int8 by ONNX Runtime's own tool, activations scaled as the model runs."""
    # The types behind ONNX Runtime's own operators are beyond its shape inference.
    quantize_dynamic(source, path, extra_options={"DefaultTensorType": TensorProto.FLOAT}, **_WEIGHTS)


def static_int8(source: Path, path: Path, tagger: Tagger, texts: Sequence[str]) -> None:
    """Makes an ONNX file int8 by ONNX Runtime's own tool, the scales of activations fixed on `texts` beforehand."""
    quantize_static(source, path, _Inputs(tagger, texts), quant_format=QuantFormat.QDQ, **_WEIGHTS)
