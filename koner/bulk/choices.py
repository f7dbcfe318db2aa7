"""The engines and input formats to choose from, in a module that is fast to import."""

from __future__ import annotations

from typing import Literal, get_args

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
InputFormat = Literal["parquet", "jsonl", "text"]
INPUT_FORMATS: tuple[InputFormat, ...] = get_args(InputFormat)
