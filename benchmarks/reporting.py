"""The command line and the output of the benchmarks: options, the machine, the order of repeats, tables, JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ruamel.yaml import YAML

from koner.hardware import usable_cores

MIB = 2**20
# In the order of their effect on the speed of int8 and bf16.
_VECTOR_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8")

Item = TypeVar("Item")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help begins with the docstring of a benchmark, unchanged."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def positive_number(text: str) -> float:
    """Return the number of an option, which must be above 0 and finite.

    Raises:
        ValueError: If it is not; argparse reports it.
    """
    number = float(text)
    if not 0 < number < inf:
        raise ValueError
    return number


def read_settings(variant: str) -> dict[str, Any]:
    """Return the parameters of a variant, `NAME KEY=VALUE ...`; the values are YAML."""
    settings = (setting.split("=", 1) for setting in variant.split()[1:])
    return {key: YAML(typ="safe", pure=True).load(value) for key, value in settings}


def describe_machine() -> str:
    """Return the number of usable cores, the name of the CPU and its vector instructions."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        pairs = [line.split(":", 1) for line in cpu_info.read_text().splitlines() if ":" in line]
        fields = {key.strip(): value.strip() for key, value in pairs}
        name, flags = fields.get("model name", name), set(fields.get("flags", "").split())
    instructions = [flag for flag in _VECTOR_INSTRUCTIONS if flag in flags]
    cores = usable_cores()
    return f"{cores} core{'s' if cores > 1 else ''} of {name} ({', '.join(instructions) or 'no AVX2'})"


def describe_run(packages: Iterable[str]) -> str:
    """Return the command of this run, with the settings of the service in the environment, and the versions."""
    settings = {name: value for name, value in os.environ.items() if name == "WORKERS" or name.startswith("KONER_")}
    assignments = [f"{name}={shlex.quote(value)}" for name, value in sorted(settings.items())]
    command = " ".join([*assignments, "python -m", f"benchmarks.{Path(sys.argv[0]).stem}", shlex.join(sys.argv[1:])])
    versions = ", ".join(f"{package} {version}" for package, version in installed_versions(packages).items())
    return f"`{command.strip()}`; {versions}"


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    versions = {"Python": platform.python_version()}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def alternate(items: Sequence[Item], repeat: int) -> Sequence[Item]:
    """Return items in order in even repeats and reversed in odd ones, so that none always runs first."""
    return items[:: 1 if repeat % 2 == 0 else -1]


def paired_ratios(numerators: Iterable[float], denominators: Iterable[float]) -> list[float]:
    """Return the ratio of two measurements in each repeat."""
    return [a / max(b, 1e-9) for a, b in zip(numerators, denominators, strict=True)]


def format_median(values: Iterable[float], digits: int = 1) -> str:
    """Format the median of the repeats."""
    return f"{median(values):.{digits}f}"


def format_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table with the first column aligned left and the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_json(
    path: Path, arguments: argparse.Namespace, measurements: Any, packages: Iterable[str] = ("torch", "onnxruntime")
) -> None:
    """Write every measurement as JSON, with the machine, the options and the versions of packages."""
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    document = {
        "machine": describe_machine(),
        "versions": installed_versions(packages),
        "options": options,
        "measured": measurements,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
