"""A trained model as one ONNX file: fused for ONNX Runtime, checked against PyTorch, the same bytes every time."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel

from koner.encoding import most_tokens
from koner.errors import KonerError
from koner.quantization import quantize
from koner.runtime import PRECISION_KEY, OnnxRuntime
from koner.sources import first_line

Precision = Literal["fp32", "int8"]
# Of logits, where the largest is 1 or less; else of the largest.
TOLERANCE = 1e-4
_INPUTS, _OUTPUT = ("input_ids", "attention_mask"), "logits"
_OPSET = 17
_LONGEST = 96  # tokens of the batches that are checked


class _Logits(torch.nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export_onnx(folder: Path, path: Path, precision: Precision) -> None:
    """Writes the safetensors model of a folder as an ONNX file of the given precision.

    Its inputs are `input_ids` and `attention_mask`, int64 (batch, tokens), padded at the end; its output `logits`,
    float32 (batch, tokens, tags). The same model gives the same bytes. Raises `KonerError` where the file, before it
    is made int8, gives other logits than PyTorch, or the model is of a kind that can't be written so.
    """
    try:
        exported = _exported(folder)
    except KonerError:
        raise
    # Tracing runs the model's own code, which may fail in any way.
    except Exception as error:
        raise KonerError(f"{folder}: its kind of model can't be written as ONNX: {first_line(error)}") from None
    _write(quantize(exported) if precision == "int8" else exported, path, precision)


def _exported(folder: Path) -> onnx.ModelProto:
    model = AutoModelForTokenClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        # The only one whose graph the optimizer knows.
        attn_implementation="eager",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    logits = _Logits(model).eval()
    batches = list(_batches(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        path = Path(scratch) / "model.onnx"
        _trace(logits, batches[0], path)
        exported = _fused(path, model.config.num_attention_heads, model.config.hidden_size)
        _write(exported, path, "fp32")
        _check(logits, OnnxRuntime(path, torch.get_num_threads()), batches, folder)
    return exported


def _trace(model: torch.nn.Module, batch: tuple[np.ndarray, np.ndarray], path: Path) -> None:
    torch.onnx.export(
        model,
        tuple(torch.from_numpy(values) for values in batch),
        path,
        input_names=list(_INPUTS),
        output_names=[_OUTPUT],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*_INPUTS, _OUTPUT)},
        opset_version=_OPSET,
        # The newer exporter takes 25 times as long, and the optimizer finds no attention in its graphs.
        dynamo=False,
    )


def _fused(path: Path, heads: int, hidden_size: int) -> onnx.ModelProto:
    """Puts one node of ONNX Runtime's own in place of each attention, layer norm and activation."""
    # It adds its folder to the modules' path when it is imported.
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    # Leaves the linear layers of an attention, and the word embeddings, where `quantize` finds them.
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
    optimized = optimize_model(
        str(path), "bert", num_heads=heads, hidden_size=hidden_size, optimization_options=options, opt_level=1
    )
    model: onnx.ModelProto = optimized.model
    return model


def _write(model: onnx.ModelProto, path: Path, precision: Precision) -> None:
    """Writes a model without what tells of the machine and the tools that made it."""
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


def _batches(config: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random token ids and their mask: sentences of several lengths in one batch, then each of them alone."""
    longest = min(most_tokens(config), _LONGEST)
    lengths = [longest, max(longest // 3, 1), 1]
    random = np.random.default_rng(0)
    ids = random.integers(0, config["vocab_size"], (len(lengths), longest))
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
    # RoBERTa counts positions by the ids that are not padding.
    pad = config.get("pad_token_id") or 0
    ids[ids == pad] = (pad + 1) % config["vocab_size"]
    yield np.where(mask == 1, ids, pad), mask
    for row, length in zip(ids, lengths, strict=True):
        yield row[None, :length], np.ones((1, length), np.int64)


def _check(
    model: torch.nn.Module,
    runtime: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: list[tuple[np.ndarray, np.ndarray]],
    folder: Path,
) -> None:
    """Compares the logits of all tokens that are not padding."""
    for ids, mask in batches:
        with torch.inference_mode():
            expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()[mask == 1]
        apart = np.abs(runtime(ids, mask)[mask == 1] - expected).max()
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        # Written so that NaN fails.
        if not apart <= allowed:
            raise KonerError(
                f"{folder}: its ONNX form gives logits that are {apart:.2g} from PyTorch's, over {allowed:.2g}"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the tracer and the optimizer say of their own workings."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
