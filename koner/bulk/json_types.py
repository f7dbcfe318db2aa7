"""The types of JSON lines' fields as columns: nothing of a value is lost, or its row is put aside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

# A field's kind: one of these, `list<...>` of one, or `json`, which is what is of no other: its JSON, as a string.
# `None` is of a field that was always null.
Kind = str | None
_JSON = "json"
_TYPES = {"bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
_MARK = b"koner_json"
_EXACT = 2**53  # up to here doubles hold every whole number


def kind_of(value: Any) -> Kind:
    """The kind of a value that JSON gave."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else _JSON
    if isinstance(value, float):
        return "double"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        kind: Kind = None
        for item in value:
            kind = merged(kind, kind_of(item))
        return _JSON if kind == _JSON or (kind or "").startswith("list") else f"list<{kind or ''}>"
    return _JSON


def merged(a: Kind, b: Kind) -> Kind:
    """The kind that holds values of both."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    if {a, b} == {"int64", "double"}:
        return "double"
    if a.startswith("list") and b.startswith("list"):
        kind = merged(a[5:-1] or None, b[5:-1] or None)
        return _JSON if kind == _JSON else f"list<{kind}>"
    return _JSON


def settled(kinds: Mapping[str, Kind]) -> pa.Schema:
    """Makes columns of fields' kinds; a field that was always null, or an empty list, becomes JSON."""
    return pa.schema([_field(name, kind) for name, kind in kinds.items()])


def types_of(schema: pa.Schema) -> dict[str, str]:
    """Reads the kinds back from columns that `settled` made."""
    return {field.name: _JSON if _MARK in (field.metadata or {}) else _kind(field.type) for field in schema}


def value_in(kind: str, value: Any, name: str) -> Any:
    """A value as its column holds it; raises ValueError where it is of another kind."""
    if kind == _JSON:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    if merged(kind, kind_of(value)) != kind or not _exact(kind, value):
        raise ValueError(f"'{name}' is no {kind}")
    return value


def _field(name: str, kind: Kind) -> pa.Field:
    if kind in _TYPES:
        return pa.field(name, _TYPES[kind])
    if kind and kind[5:-1] in _TYPES:
        return pa.field(name, pa.list_(_TYPES[kind[5:-1]]))
    return pa.field(name, pa.string(), metadata={_MARK: b"1"})


def _kind(type_: pa.DataType) -> str:
    return f"list<{type_.value_type}>" if pa.types.is_list(type_) else str(type_)


def _exact(kind: str, value: Any) -> bool:
    if kind == "list<double>":
        return all(_exact("double", item) for item in value or ())
    return kind != "double" or not isinstance(value, int) or abs(value) <= _EXACT
