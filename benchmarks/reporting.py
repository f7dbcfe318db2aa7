"""What the benchmarks print: the machine, and Markdown tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path


def cores() -> int:
    """The CPU cores that this process, and what it starts, may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """The machine in a few words: cores at hand, the CPU's name, and the vector instructions that decide speed."""
    name, flags = platform.processor() or platform.machine(), set()
    about = Path("/proc/cpuinfo")
    if about.is_file():
        fields = dict(line.split(":", 1) for line in about.read_text().splitlines() if ":" in line)
        lines = {key.strip(): value.strip() for key, value in fields.items()}
        name, flags = lines.get("model name", name), set(lines.get("flags", "").split())
    # In rising order of what they are worth to int8 and bf16.
    vectors = [
        flag for flag in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags
    ]
    count = cores()
    return f"{count} core{'s' if count > 1 else ''} of {name} ({', '.join(vectors) or 'no AVX2'})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, first column left and the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
