"""The names and colours by which labels are shown: those of a `labels.yaml`, or else the label and a chosen colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koner.errors import KonerError
from koner.labels.colours import Shade, distinct_colours, lighten, shades
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet, why_not_a_label
from koner.resources import SAMPLE_CORPUS
from koner.validation import read_yaml, short_repr

STYLES_FILE = "labels.yaml"

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$")]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]

_ALLOWED = {
    "ko": "a name in Korean, of one line",
    "en": "a name in English, of one line",
    "color": "a colour such as '#1d5fa8', or one for each mode: {light: '#1d5fa8', dark: '#8ec2ff'}",
}


class _Colours(BaseModel):
    """The colour of a label in light and in dark mode."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    light: Colour
    dark: Colour


class _Entry(BaseModel):
    """An entry of the file, all of it optional."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ko: Name | None = None
    en: Name | None = None
    color: Colour | _Colours | None = None


@dataclass(frozen=True, slots=True)
class LabelStyle:
    """How a label is shown: its names in Korean and English, and its colours in light and dark mode."""

    label: str
    ko: str
    en: str
    light: Shade
    dark: Shade

    @property
    def names(self) -> dict[str, str]:
        """The names by language."""
        return {"ko": self.ko, "en": self.en}

    @property
    def description(self) -> str:
        """The label with its English name, if it has one."""
        return self.label if self.en == self.label else f"{self.label} ({self.en})"


def read_styles(path: Path | None, labels: LabelSet) -> tuple[LabelStyle, ...]:
    """Return the styles of a label set, in the order to show them: that of the file, then that of the label set.

    Args:
        path: A `labels.yaml`. If it is None, does not exist or is empty, the labels of KLUE-NER have the styles of the
            sample corpus.
        labels: The label set. Entries of other labels are left out.

    Raises:
        KonerError: If the file is not valid; the message names the label and the field.
    """
    entries = read_entries(path) if path is not None and path.exists() else {}
    if not entries and set(labels.types) <= set(KLUE.types):
        entries = read_entries(SAMPLE_CORPUS / STYLES_FILE)
    order = [*(label for label in entries if label in labels.type_to_id)]
    order += [label for label in labels.types if label not in entries]
    return tuple(_style(label, entries.get(label) or _Entry(), labels.type_to_id[label]) for label in order)


def read_entries(path: Path) -> Mapping[str, Any]:
    """Return the entries of a `labels.yaml` by label, after checking them.

    Raises:
        KonerError: As `read_styles` does.
    """
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise KonerError(f"{path}: the top level must be labels, each with `ko`, `en` or `color`")
    return {label: _read_entry(path, label, value) for label, value in values.items()}


def stylesheet(styles: Sequence[LabelStyle]) -> str:
    """Return the CSS rules of labels: the classes `t0`, `t1`, … set the colours of the styles, in both modes."""
    light = "\n".join(_rule(i, style.light) for i, style in enumerate(styles))
    dark = "\n".join(_rule(i, style.dark) for i, style in enumerate(styles))
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _read_entry(path: Path, label: Any, value: Any) -> _Entry:
    if not isinstance(label, str):
        raise KonerError(f"{path}: the label {short_repr(label)} is not a text; write it in quotation marks")
    if reason := why_not_a_label(label):
        raise KonerError(f"{path}: the label {short_repr(label)} {reason}")
    try:
        return _Entry.model_validate({} if value is None else value)
    except ValidationError as error:
        location = error.errors(include_url=False)[0]["loc"]
    if not location:
        raise KonerError(f"{path}: {label}: {short_repr(value)} must be `ko`, `en` and `color` with their values")
    field = str(location[0])
    if field not in _ALLOWED:
        raise KonerError(
            f"{path}: {label}: there is no field {short_repr(field)}; the fields are {', '.join(_ALLOWED)}"
        )
    raise KonerError(
        f"{path}: {label}: {field}: {short_repr(value[field])} is not allowed; it must be {_ALLOWED[field]}"
    )


def _style(label: str, entry: _Entry, position: int) -> LabelStyle:
    if entry.color is None:
        colours = distinct_colours(position)
    elif isinstance(entry.color, str):
        colours = entry.color, lighten(entry.color)
    else:
        colours = entry.color.light, entry.color.dark
    light, dark = shades(*(colour.lower() for colour in colours))
    return LabelStyle(label, entry.ko or entry.en or label, entry.en or label, light, dark)


def _rule(i: int, shade: Shade) -> str:
    return f".t{i} {{ --chip: {shade.chip}; --on-chip: {shade.chip_text}; --tint: {shade.tint}; }}"
