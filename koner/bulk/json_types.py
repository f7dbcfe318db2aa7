"""Schema inference for JSON lines: column types that keep every value exactly, or reject its row.

A column type is `bool`, `int64`, `double`, `string`, `list<...>` of one of these, or `json` for anything else, which is
stored as a string of JSON with every number as it was written. None is the type of a field whose values are all null.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
from jiter import LosslessFloat

ColumnType = str | None
_JSON = "json"
_ARROW_TYPES = {"bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
# A key in a field's metadata: the strings of the column are JSON.
_JSON_MARK = b"koner_json"
_MAX_EXACT_INTEGER = 2**53  # doubles represent every integer up to here
_EXACT_DIGITS = 15  # doubles keep every number of so many significant digits within their range


def infer_type(value: Any) -> ColumnType:
    """Return the column type of a parsed JSON value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else _JSON
    if isinstance(value, float | LosslessFloat):
        return "double" if _is_exact("double", value) else _JSON
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        item_type: ColumnType = None
        for item in value:
            item_type = merge_types(item_type, infer_type(item))
        is_nested = item_type == _JSON or (item_type or "").startswith("list")
        return _JSON if is_nested else f"list<{item_type or ''}>"
    return _JSON


def merge_types(a: ColumnType, b: ColumnType) -> ColumnType:
    """Return the column type that holds the values of two types."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    if {a, b} == {"int64", "double"}:
        return "double"
    if a.startswith("list") and b.startswith("list"):
        item_type = merge_types(_item_type(a) or None, _item_type(b) or None)
        return _JSON if item_type == _JSON else f"list<{item_type}>"
    return _JSON


def build_schema(types: Mapping[str, ColumnType]) -> pa.Schema:
    """Return the columns for the types of fields; a field of nulls or of empty lists only becomes `json`."""
    return pa.schema([_build_field(name, type_) for name, type_ in types.items()])


def read_types(schema: pa.Schema) -> dict[str, str]:
    """Return the column types of a schema that `build_schema` built."""
    return {field.name: _JSON if _JSON_MARK in (field.metadata or {}) else _type_name(field.type) for field in schema}


def convert_value(type_: str, value: Any, name: str) -> Any:
    """Return a value as its column stores it.

    Raises:
        ValueError: If the value has another type, or the column can't represent it exactly.
    """
    if type_ == _JSON:
        return None if value is None else _to_json(value)
    if merge_types(type_, infer_type(value)) != type_ or not _is_exact(type_, value):
        raise ValueError(f"'{name}' is not of the type {type_}, or has a value that this type can't hold exactly")
    if type_ == "double" and isinstance(value, LosslessFloat):
        return float(value)
    if type_ == "list<double>" and value is not None:
        return [float(item) if isinstance(item, LosslessFloat) else item for item in value]
    return value


def _item_type(list_type: str) -> str:
    return list_type.removeprefix("list<").removesuffix(">")


def _build_field(name: str, type_: ColumnType) -> pa.Field:
    if type_ in _ARROW_TYPES:
        return pa.field(name, _ARROW_TYPES[type_])
    if type_ and _item_type(type_) in _ARROW_TYPES:
        return pa.field(name, pa.list_(_ARROW_TYPES[_item_type(type_)]))
    return pa.field(name, pa.string(), metadata={_JSON_MARK: b"1"})


def _type_name(type_: pa.DataType) -> str:
    return f"list<{type_.value_type}>" if pa.types.is_list(type_) else str(type_)


def _is_exact(type_: str, value: Any) -> bool:
    if type_ == "list<double>":
        return all(_is_exact("double", item) for item in value or ())
    if type_ != "double":
        return True
    if isinstance(value, int):
        return abs(value) <= _MAX_EXACT_INTEGER
    if isinstance(value, LosslessFloat):
        return _is_exact_number(value)
    return value is None or math.isfinite(value)


def _is_exact_number(text: LosslessFloat) -> bool:
    """Return whether the nearest double, printed with as many digits as the number has, is the number again."""
    try:
        number = text.as_decimal()
    except InvalidOperation:  # an exponent beyond every type
        return False
    nearest = float(number)
    digits = len(number.as_tuple().digits)
    # Numbers below the normal range of a double have fewer exact digits.
    if digits <= _EXACT_DIGITS and sys.float_info.min <= abs(nearest) <= sys.float_info.max:
        return True
    return math.isfinite(nearest) and Decimal(f"{nearest:.{digits - 1}e}") == number


def _to_json(value: Any) -> str:
    """Return a value as JSON; `json.dumps` would round the numbers that a double can't hold."""
    if isinstance(value, LosslessFloat):
        return str(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_to_json(key)}: {_to_json(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_to_json, value))}]"
    return json.dumps(value, ensure_ascii=False)
