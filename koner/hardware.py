"""The CPU cores and GPUs that this process may use."""

from __future__ import annotations

import ctypes
import importlib.util
import os


def usable_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of threads for a model: the usable cores, or fewer if `OMP_NUM_THREADS` says so.

    Jobs that share a machine limit each other by that variable; PyTorch reads it by itself.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(limit)) if limit.isdecimal() and int(limit) else usable_cores()


def has_torch() -> bool:
    """Return whether PyTorch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def has_cuda() -> bool:
    """Return whether PyTorch can use a CUDA GPU, without importing it if there is no NVIDIA driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    if not has_torch():
        return False
    import torch

    return torch.cuda.is_available()


def default_device() -> str:
    """Return the device that runs a model if none is chosen: `cuda` if PyTorch can use a GPU, else `cpu`."""
    return "cuda" if has_cuda() else "cpu"
