"""Validation of files by pydantic models, with one sentence per error."""

from __future__ import annotations

import errno
import os
import reprlib
import stat
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from koner.errors import KonerError

Schema = TypeVar("Schema", bound=BaseModel)

_LARGEST_YAML = 4 * 2**20  # bytes; ruamel reads some 300 KB a second


class _ShortRepr(reprlib.Repr):
    """The form of values in messages.

    A value may be a text of megabytes, a number with more digits than Python prints, or, by YAML's aliases, a list that
    has no end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**self.maxlong else f"a number of more than {self.maxlong} digits"


short_repr = _ShortRepr().repr


def is_encoding(name: str) -> bool:
    """Return whether a name is that of a text encoding."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


def allowed_values(field: FieldInfo) -> str:
    """Describe the values that a field allows, such as "a whole number from 1 to 96".

    The sentence comes from the type and the bounds of the field, so that they are written once. The description of a
    number is added to it; for any other type that has no fixed set of values, the description is the sentence.
    """
    types = [type_ for type_ in get_args(field.annotation) if type_ is not NoneType] or [field.annotation]
    type_ = types[0] if len(types) == 1 else field.annotation
    if get_origin(field.annotation) is Literal:
        *others, last = map(repr, get_args(field.annotation))
        return f"{', '.join(others)} or {last}"
    if type_ is bool:
        return "true or false"
    if type_ in (int, float):
        return " ".join(filter(None, (_describe_range(field, type_), field.description)))
    return str(field.description)


def _describe_range(field: FieldInfo, type_: Any) -> str:
    bounds = {type(bound): bound for bound in field.metadata}
    low, above, high, below = (getattr(bounds.get(kind), kind.__name__.lower(), None) for kind in (Ge, Gt, Le, Lt))
    if type_ is int:
        low = above + 1 if low is None and above is not None else low
        high = below - 1 if high is None and below is not None else high
        return f"a whole number from {low} to {high}"
    if low is not None:
        return f"a number from {low} to {high}" if high is not None else f"a number from {low}, below {below}"
    return f"a number above {above}, at most {high}" if high is not None else f"a number between {above} and {below}"


def validate(values: Any, path: Path, schema: type[Schema]) -> Schema:
    """Return the values of a file as an instance of a pydantic model.

    Args:
        values: The values that were read from `path`.
        path: The file, for messages.
        schema: The model; `allowed_values` describes its fields in messages.

    Raises:
        KonerError: If the values are not valid; the message is one sentence about the first error.
    """
    if not isinstance(values, dict):
        raise KonerError(f"{path}: the top level must be `key: value` lines")
    for key in values:
        if not isinstance(key, str):
            known = ", ".join(schema.model_fields)
            raise KonerError(f"{path}: the key {short_repr(key)} is not a word; known keys are {known}")
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise KonerError(f"{path}: {_describe_error(error, values, schema)}") from None


def _describe_error(error: ValidationError, values: dict[str, Any], schema: type[BaseModel]) -> str:
    details = error.errors(include_url=False)[0]
    if not details["loc"]:
        return str(details["msg"]).removeprefix("Value error, ")
    key = str(details["loc"][0])
    value = short_repr(values.get(key))
    if details["type"] == "extra_forbidden":
        known = ", ".join(schema.model_fields)
        return f"{_short_key(key)}: {value} is set, but there is no such key; known keys are {known}"
    allowed = allowed_values(schema.model_fields[key])
    if details["type"] == "missing":
        return f"{key} is missing; it must be {allowed}"
    if details["type"] == "string_too_long":
        return f"{key}: {value} is too long; at most {details['ctx']['max_length']} characters are allowed"
    return f"{key}: {value} is not allowed; it must be {allowed}"


def _short_key(key: str) -> str:
    """Return a key as it is written, if it is a word that fits in a sentence."""
    return key if key.isidentifier() and len(key) < 100 else short_repr(key)


def check_regular(path: Path | int, name: Path) -> None:
    """Check that a file, given by its path or descriptor, is a regular file.

    Raises:
        KonerError: If it is neither a file nor a link to one, such as a named pipe, whose content may never end.
        OSError: If the file does not exist or is a folder.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(name))
    if not stat.S_ISREG(status.st_mode):
        raise KonerError(f"{name} is not a regular file")


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        limit: The largest size that is read, in bytes.

    Raises:
        KonerError: If it is not a regular file, or is larger.
        OSError: If it cannot be read.
    """
    # A named pipe that nobody writes to would block the call without O_NONBLOCK.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        check_regular(file.fileno(), path)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise KonerError(f"{path} has more than the {limit:,} bytes that are read of such a file")
    return content


def read_yaml(path: Path) -> Any:
    """Return the values of a YAML file.

    The file is read as YAML 1.2, as DVC reads it. PyYAML's YAML 1.1 would read the `3e-05` that DVC writes as a string.

    Raises:
        KonerError: If the file does not exist or is not valid; the message names the line.
    """
    text = _read_text(path)
    try:
        return deepcopy(_parse_yaml(text))
    except RecursionError:
        raise KonerError(f"{path}: not valid YAML: it is nested too deeply") from None
    except YAMLError as error:
        raise KonerError(f"{path}{_describe_yaml_error(error, text)}") from None


def _read_text(path: Path) -> str:
    try:
        content = read_file(path, _LARGEST_YAML)
    except FileNotFoundError:
        raise KonerError(f"{path} is missing; run from the root of the repository") from None
    except OSError as error:
        raise KonerError(f"{path} can't be read: {error.strerror}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise KonerError(f"{path}, line {line}: it is not UTF-8; save the file as UTF-8") from None


def _describe_yaml_error(error: YAMLError, text: str) -> str:
    """Return the line of an error and its reason, as the end of a sentence that starts with the file's name."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f", line {line}: not valid YAML: the character U+{error.character:04X} is not allowed"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it can't be read"
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"  # type: ignore[attr-defined]
    # A part of the file that is quoted may hold any number of lines.
    problem = " ".join(problem.split())
    return (f", line {mark.line + 1}" if mark else "") + f": not valid YAML: {problem[:300]}"


class _Constructor(SafeConstructor):
    """ruamel's constructor of plain values, whose errors all name their line."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (YAMLError, RecursionError, MemoryError):
            raise
        except Exception:
            # ruamel lets the errors of int, float, date and its own tables of words pass.
            value, type_ = short_repr(node.value), str(node.tag).rpartition(":")[2]
            problem = f"{value} can't be read as a value of type {type_}"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if key in mapping:
            # ruamel's own message quotes both values whole.
            raise DuplicateKeyError(None, None, f"the key {short_repr(key)} is there twice", key_node.start_mark)
        return True


@lru_cache(maxsize=4)
def _parse_yaml(text: str) -> Any:
    # ruamel takes some 50 ms for `dvc.lock`, which the start of the service reads three times.
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml.load(text)
