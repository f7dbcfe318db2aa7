"""The floating-point precision of training."""

from __future__ import annotations

import torch


def uses_bf16(precision: str) -> bool:
    """Return whether to train in bfloat16.

    Args:
        precision: The parameter: `bf16`, `fp32`, or `auto` for bfloat16 only if it is faster. It is faster on GPUs
            that support it in hardware and on CPUs with AMX. With AVX-512's instructions alone it was slower than fp32
            on an Intel Xeon and 1.5 times as fast on an AMD EPYC (Zen 4), so there the user decides.
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def precision_settings(precision: str) -> dict[str, bool]:
    """Return the `TrainingArguments` that make the Trainer use a precision."""
    bf16 = uses_bf16(precision)
    # The Trainer refuses bf16 without a GPU unless it is set to use the CPU.
    return {"bf16": bf16, "use_cpu": bf16 and not torch.cuda.is_available()}
