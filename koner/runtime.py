"""What computes a model's logits: ONNX Runtime on the CPU, or PyTorch, which is imported only where it is used."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from koner.errors import KonerError

ONNX_FILE = "model.onnx"
# A metadata property of the ONNX file: the precision of its weights, where that is not fp32.
PRECISION_KEY = "koner_precision"
_INPUTS, _OUTPUT = ("input_ids", "attention_mask"), "logits"


class Runtime(Protocol):
    """Computes logits: `input_ids` and `attention_mask`, int64 (batch, tokens), to float32 (batch, tokens, tags).

    `description` says in words what it is and runs on. It may be called from any thread.
    """

    description: str

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray: ...


class OnnxRuntime:
    """A model file run by ONNX Runtime on `threads` cores of the CPU, all that the process may use for None.

    Raises `KonerError` where the file can't be read, or is the model of something else.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        # Its telemetry sends a first event, from a thread of its own, as soon as it is imported.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort

        threads = threads or _cores()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise KonerError(f"{path} can't be read as an ONNX model: {_first_line(error)}") from None
        names = {value.name for value in self._session.get_inputs()}
        if names != set(_INPUTS) or _OUTPUT not in {value.name for value in self._session.get_outputs()}:
            raise KonerError(f"{path} is not of a model from {' and '.join(_INPUTS)} to {_OUTPUT}; run `dvc repro`")
        precision = self._session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY, "fp32")
        self.description = f"ONNX Runtime {precision}, {_counted(threads)}"

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        (logits,) = self._session.run([_OUTPUT], dict(zip(_INPUTS, (input_ids, attention_mask), strict=True)))
        return np.asarray(logits, np.float32)


class TorchRuntime:
    """The safetensors model of a folder run by PyTorch on `device`; in bfloat16 on a GPU that has it in hardware.

    `threads` is for the CPU, and holds for the whole process. Raises `KonerError` where the folder holds no such
    model or the machine no such device.
    """

    def __init__(self, folder: Path, device: str, threads: int | None = None) -> None:
        import torch
        from transformers import AutoModelForTokenClassification
        from transformers.utils.logging import disable_progress_bar

        # Drawn on standard error even where nobody looks.
        disable_progress_bar()
        try:
            # Never a pickle: that runs whatever code is in it.
            model = AutoModelForTokenClassification.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except Exception as error:
            raise KonerError(f"{folder} can't be read as a model: {_first_line(error)}") from None
        try:
            self._model: Any = model.eval().to(device)
        except (AssertionError, RuntimeError) as error:
            raise KonerError(f"device: '{device}' can't be used: {_first_line(error)}") from None
        self._device = self._model.device
        cuda = self._device.type == "cuda"
        if threads and not cuda:
            torch.set_num_threads(threads)
        self._bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        place = torch.cuda.get_device_name(self._device) if cuda else _counted(torch.get_num_threads())
        self.description = f"PyTorch {'bf16' if self._bf16 else 'fp32'}, {place}"

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        import torch

        inputs = (torch.from_numpy(values).to(self._device) for values in (input_ids, attention_mask))
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = self._model(**dict(zip(_INPUTS, inputs, strict=True))).logits
        return np.asarray(logits.float().cpu())


def choose_runtime(folder: Path, device: str | None = None, threads: int | None = None) -> Runtime:
    """Takes what is fastest here: PyTorch on a CUDA GPU, else ONNX Runtime where the folder has its file, else PyTorch.

    `device` (`cpu`, `cuda`, ...) chooses in place of the machine. Raises `KonerError` as the runtimes do, and where
    PyTorch is needed and not installed.
    """
    device = device or default_device()
    if device == "cpu" and (folder / ONNX_FILE).is_file():
        return OnnxRuntime(folder / ONNX_FILE, threads)
    if not _has_torch():
        missing = f"{folder} holds no {ONNX_FILE}" if device == "cpu" else f"device '{device}' is asked for"
        raise KonerError(f"{missing}, and PyTorch is not installed")
    return TorchRuntime(folder, device, threads)


def default_device() -> str:
    """What runs a model where nobody chooses: `cuda` where PyTorch can use a CUDA GPU, else `cpu`."""
    return "cuda" if _has_cuda() else "cpu"


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _has_cuda() -> bool:
    """Tells whether PyTorch can use a CUDA GPU, without importing it where there is no NVIDIA driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    if not _has_torch():
        return False
    import torch

    return torch.cuda.is_available()


def usable_cores() -> int:
    """The CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores() -> int:
    # Where several jobs share a machine it says how many threads each may have; PyTorch goes by it of itself.
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(limit)) if limit.isdecimal() and int(limit) else usable_cores()


def _counted(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
