"""The export to ONNX: fused for ONNX Runtime, checked against PyTorch, and reproducible byte for byte."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel

from koner.errors import KonerError, first_line
from koner.export.dynamic_quantization import quantize_dynamically
from koner.export.static_quantization import measure_ranges, quantize_statically
from koner.inference.runtimes import INPUTS, OUTPUT, PRECISION_KEY, OnnxRuntime
from koner.tokens.windows import max_window_length

# The scales of activations are measured beforehand (int8), or computed at run time for each token (int8-dynamic).
Precision = Literal["fp32", "int8", "int8-dynamic"]
# The tolerated difference of logits: absolute up to logits of 1, relative to the largest logit above.
TOLERANCE = 1e-4
_OPSET = 17
_MAX_CHECKED_LENGTH = 96  # tokens


class _LogitsModule(torch.nn.Module):
    """A model whose output is the logits alone, as an ONNX graph needs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export_onnx(folder: Path, path: Path, precision: Precision, samples: Iterable[Sequence[int]] = ()) -> None:
    """Export the safetensors model of a folder to ONNX.

    The inputs are `input_ids` and `attention_mask`, int64 (batch, tokens), padded at the end; the output is `logits`,
    float32 (batch, tokens, labels). The same model results in the same bytes.

    Args:
        folder: The model folder.
        path: The ONNX file to write.
        precision: The precision of the linear layers.
        samples: The token ids of windows, with special tokens, on which the ranges of activations are measured; only
            int8 needs them.

    Raises:
        KonerError: If the architecture can't be exported, or the logits of the ONNX model, before quantization,
            differ from those of PyTorch.
    """
    try:
        # Static scales belong to an attention with its linear layers, dynamic ones to single linear layers.
        model = _export_checked(folder, separate_layers=precision == "int8-dynamic")
    except KonerError:
        raise
    # Tracing runs the code of the model, which may raise any exception.
    except Exception as error:
        raise KonerError(f"{folder}: models of this type can't be exported to ONNX: {first_line(error)}") from None
    if precision == "int8":
        model = quantize_statically(model, measure_ranges(model, samples))
    elif precision == "int8-dynamic":
        model = quantize_dynamically(model)
    _write(model, path, precision)


def _export_checked(folder: Path, separate_layers: bool) -> onnx.ModelProto:
    model = AutoModelForTokenClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        # The optimizer recognizes the graph of this implementation only.
        attn_implementation="eager",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    logits = _LogitsModule(model).eval()
    batches = list(_iterate_check_batches(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    with tempfile.TemporaryDirectory() as scratch, _silence():
        path = Path(scratch) / "model.onnx"
        _trace(logits, batches[0], path)
        exported = _fuse(path, model.config.num_attention_heads, model.config.hidden_size, separate_layers)
        _write(exported, path, "fp32")
        _check_logits(logits, OnnxRuntime(path, torch.get_num_threads()), batches, folder)
    return exported


def _trace(model: torch.nn.Module, batch: tuple[np.ndarray, np.ndarray], path: Path) -> None:
    torch.onnx.export(
        model,
        tuple(torch.from_numpy(values) for values in batch),
        path,
        input_names=list(INPUTS),
        output_names=[OUTPUT],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*INPUTS, OUTPUT)},
        opset_version=_OPSET,
        # The newer exporter takes 25 times as long, and the optimizer does not recognize attention in its graphs.
        dynamo=False,
    )


def _fuse(path: Path, heads: int, hidden_size: int, separate_layers: bool) -> onnx.ModelProto:
    """Replace each attention, layer normalization and activation by one operator of ONNX Runtime.

    Args:
        path: The traced model.
        heads: The number of attention heads.
        hidden_size: The number of units.
        separate_layers: Whether the linear layers of an attention stay nodes of their own.
    """
    # Imported on use, because the package adds its folder to the module search path.
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.use_multi_head_attention = separate_layers
    # Keeps the word embeddings as a node that quantization can replace.
    options.enable_embed_layer_norm = False
    # On a CPU, these operators are slower than the nodes that they replace (`python -m benchmarks.runtimes`).
    options.enable_skip_layer_norm = False
    options.enable_bias_gelu = False
    optimized = optimize_model(
        str(path), "bert", num_heads=heads, hidden_size=hidden_size, optimization_options=options, opt_level=1
    )
    model: onnx.ModelProto = optimized.model
    return model


def _write(model: onnx.ModelProto, path: Path, precision: Precision) -> None:
    """Write a model without metadata of the machine and of the tools that made it."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for field in ("producer_name", "producer_version", "doc_string", "metadata_props"):
        plain.ClearField(field)
    graph = plain.graph
    for field in ("doc_string", "metadata_props", "value_info"):
        graph.ClearField(field)
    graph.name = "koner"
    for node in graph.node:
        for field in ("doc_string", "metadata_props"):
            node.ClearField(field)
    onnx.helper.set_model_props(plain, {PRECISION_KEY: precision})
    path.write_bytes(plain.SerializeToString(deterministic=True))


def _iterate_check_batches(config: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield random token ids with their mask: sentences of several lengths as one batch, then each as its own batch."""
    longest = min(max_window_length(config), _MAX_CHECKED_LENGTH)
    lengths = [longest, max(longest // 3, 1), 1]
    random = np.random.default_rng(0)
    ids = random.integers(0, config["vocab_size"], (len(lengths), longest))
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
    # A random id must not be the padding id, by which RoBERTa counts positions.
    pad = config.get("pad_token_id") or 0
    ids[ids == pad] = (pad + 1) % config["vocab_size"]
    yield np.where(mask == 1, ids, pad), mask
    for row, length in zip(ids, lengths, strict=True):
        yield row[None, :length], np.ones((1, length), np.int64)


def _check_logits(
    model: torch.nn.Module,
    runtime: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: list[tuple[np.ndarray, np.ndarray]],
    folder: Path,
) -> None:
    """Compare the logits of all tokens except padding with those of PyTorch."""
    for ids, mask in batches:
        with torch.inference_mode():
            expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()[mask == 1]
        difference = np.abs(runtime(ids, mask)[mask == 1] - expected).max()
        tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        # The negated comparison also refuses NaN.
        if not difference <= tolerance:
            raise KonerError(
                f"{folder}: the logits of its ONNX model differ from those of PyTorch by {difference:.2g}, more than "
                f"{tolerance:.2g}"
            )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the warnings and log messages of the tracer and the optimizer."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous_level)
