"""Runtimes and ONNX files made by other tools, with which `runtimes.py` compares those of the project."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from transformers import AutoConfig, AutoModelForTokenClassification

from koner.inference.runtimes import TorchRuntime
from koner.inference.tagger import Tagger

_OPSET = 17
# Weights of seven bits, with a scale per output channel: on CPUs without VNNI, products of eight-bit integers overflow.
_WEIGHT_OPTIONS = {
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "reduce_range": True,
    "op_types_to_quantize": ["MatMul", "Attention"],
}


class BFloat16Runtime(TorchRuntime):
    """PyTorch with weights and activations in bfloat16."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__(folder, "cpu", threads)
        self._model = self._model.bfloat16()


class _CalibrationInputs(CalibrationDataReader):
    """The inputs of the model for texts, one window at a time."""

    def __init__(self, tagger: Tagger, texts: Sequence[str]) -> None:
        self._windows = iter([window for text in tagger.encode(texts) for window in text.windows])

    def get_next(self) -> dict[str, np.ndarray] | None:
        window = next(self._windows, None)
        if window is None:
            return None
        ids = np.array([window.input_ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def export_standard_operators(folder: Path, path: Path) -> None:
    """Export a model to an ONNX file with standard operators only, as OpenVINO needs it."""
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
            opset_version=_OPSET,
            dynamo=False,
        )


def fuse_by_default(source: Path, path: Path, model: Path) -> None:
    """Optimize an ONNX file by ONNX Runtime's tool for transformers, with its default options.

    Args:
        source: The file, as `export_standard_operators` writes it.
        path: The file to write.
        model: The folder of the model.
    """
    from onnxruntime.transformers.optimizer import optimize_model

    config = AutoConfig.from_pretrained(model)
    # The tool reports each kind of node that it replaces.
    logging.disable(logging.WARNING)
    try:
        optimized = optimize_model(
            str(source), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
        )
    finally:
        logging.disable(logging.NOTSET)
    optimized.save_model_to_file(str(path))


def quantize_dynamically(source: Path, path: Path) -> None:
    """Quantize an ONNX file to int8 by ONNX Runtime's tool; activations are scaled when the model runs."""
    # The tool's shape inference does not know the output types of ONNX Runtime's own operators.
    quantize_dynamic(source, path, extra_options={"DefaultTensorType": TensorProto.FLOAT}, **_WEIGHT_OPTIONS)


def quantize_statically(source: Path, path: Path, tagger: Tagger, texts: Sequence[str]) -> None:
    """Quantize an ONNX file to int8 by ONNX Runtime's tool; the scales of activations are calibrated on texts."""
    quantize_static(source, path, _CalibrationInputs(tagger, texts), quant_format=QuantFormat.QDQ, **_WEIGHT_OPTIONS)
