"""Runtimes that compute the logits of a model: ONNX Runtime on the CPU, or PyTorch, which is imported on use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from koner.errors import KonerError, first_line
from koner.hardware import default_device, default_threads, has_torch
from koner.inference.model_folder import check_file, check_weights

ONNX_FILE = "model.onnx"
# The metadata property of an ONNX file that holds the precision of its weights; fp32 if it is missing.
PRECISION_KEY = "koner_precision"
# The names of the inputs and of the output of a model.
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"


class Runtime(Protocol):
    """The inference backend of a model; any thread may call it.

    A call takes `input_ids` and `attention_mask`, int64 (batch, tokens), and returns the logits, float32 (batch,
    tokens, labels).

    Attributes:
        description: The library, precision and hardware, for people to read.
        batch_tokens: The number of tokens in a batch, padding included, at which throughput is highest.
    """

    description: str
    batch_tokens: int

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the logits (batch, tokens, labels) of token ids and their mask (batch, tokens)."""


class OnnxRuntime:
    """An ONNX model, run by ONNX Runtime on the CPU.

    Args:
        path: The ONNX file.
        threads: The number of threads; `koner.hardware.default_threads` if None.

    Raises:
        KonerError: If the file can't be read, names weights outside of its folder, or has other inputs or outputs.
    """

    # Larger batches were slower on the CPUs that were measured, because they do not fit into the caches.
    batch_tokens = 512

    def __init__(self, path: Path, threads: int | None = None) -> None:
        check_file(path)
        # Set before the import, which starts a thread that sends telemetry.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort

        threads = threads or default_threads()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors
        # Threads that wait for the next operator actively would take the cores from the threads that handle requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise KonerError(f"{path} can't be read as an ONNX model: {first_line(error)}") from None
        input_names = {value.name for value in self._session.get_inputs()}
        if input_names != set(INPUTS) or OUTPUT not in {value.name for value in self._session.get_outputs()}:
            raise KonerError(
                f"{path} is not a model with the inputs {' and '.join(INPUTS)} and the output {OUTPUT}; run `dvc repro`"
            )
        precision = self._session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY, "fp32")
        self.description = f"ONNX Runtime {precision}, {_describe_threads(threads)}"

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the logits, as `Runtime` describes."""
        (logits,) = self._session.run([OUTPUT], dict(zip(INPUTS, (input_ids, attention_mask), strict=True)))
        return np.asarray(logits, np.float32)


class TorchRuntime:
    """A safetensors model, run by PyTorch; in bfloat16 on a GPU with hardware support for it.

    Args:
        folder: The model folder.
        device: The PyTorch device.
        threads: The number of CPU threads, set for the whole process; PyTorch's default if None.

    Raises:
        KonerError: If the folder holds no such model, or the device can't be used.
    """

    # A GPU needs larger batches.
    batch_tokens = 4096

    def __init__(self, folder: Path, device: str, threads: int | None = None) -> None:
        import torch

        model = _load_weights(folder)
        try:
            self._model: Any = model.eval().to(device)
        except (AssertionError, RuntimeError) as error:
            raise KonerError(f"device: '{device}' can't be used: {first_line(error)}") from None
        self._device = self._model.device
        is_cuda = self._device.type == "cuda"
        if threads and not is_cuda:
            torch.set_num_threads(threads)
        self._bf16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        hardware = torch.cuda.get_device_name(self._device) if is_cuda else _describe_threads(torch.get_num_threads())
        self.description = f"PyTorch {'bf16' if self._bf16 else 'fp32'}, {hardware}"

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Return the logits, as `Runtime` describes."""
        import torch

        inputs = (torch.from_numpy(values).to(self._device) for values in (input_ids, attention_mask))
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = self._model(**dict(zip(INPUTS, inputs, strict=True))).logits
        return np.asarray(logits.float().cpu())


def choose_runtime(folder: Path, device: str | None = None, threads: int | None = None) -> Runtime:
    """Load the fastest runtime: PyTorch on a CUDA GPU, else ONNX Runtime if the folder has its file, else PyTorch.

    Args:
        folder: The model folder.
        device: The device (`cpu`, `cuda`, ...); `koner.hardware.default_device` if None.
        threads: The number of CPU threads; all that the process may use if None.

    Returns:
        The runtime with the model loaded.

    Raises:
        KonerError: If the model or the device can't be used, or PyTorch is needed and not installed.
    """
    device = device or default_device()
    if device == "cpu" and os.path.lexists(folder / ONNX_FILE):
        return OnnxRuntime(folder / ONNX_FILE, threads)
    if not has_torch():
        reason = f"{folder} holds no {ONNX_FILE}" if device == "cpu" else f"the device is '{device}'"
        raise KonerError(f"{reason}, and PyTorch, which could run the model, is not installed")
    return TorchRuntime(folder, device, threads)


def _describe_threads(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}"


def _load_weights(folder: Path) -> Any:
    """Load the safetensors model of a folder in 32 bits, and never a pickle, which can execute any code."""
    import torch
    from transformers import AutoModelForTokenClassification
    from transformers.utils import logging

    check_weights(folder)
    # The bar would be drawn on standard error even if that is no terminal.
    logging.disable_progress_bar()
    # transformers would print a table of the weights that do not fit; the errors below say what matters.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, info = AutoModelForTokenClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        reason = f"can't be read as a model: {first_line(error)}"
        if "ignore_mismatched_sizes" in reason:
            reason = (
                "holds weights of other shapes than config.json describes, for instance of another number of labels"
            )
        raise KonerError(f"{folder} {reason}") from None
    finally:
        logging.set_verbosity(verbosity)
    # transformers fills missing weights with random numbers and raises no error.
    if missing := sorted(info["missing_keys"]):
        raise KonerError(f"{folder}: the weights lack {len(missing)} of the model's, such as {missing[0]}")
    return model
