"""Colours of labels that can be read in a light and in a dark page.

Contrast is that of WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

MIN_CONTRAST = 4.5
# Of page and text, as in the styles of the page and of the report.
LIGHT_PAGE, LIGHT_TEXT, DARK_PAGE, DARK_TEXT = "#ffffff", "#1a1d21", "#14171b", "#e6e9ed"
# The colours of text on a chip, of which the first that can be read counts. On any colour, one of the last two can.
_CHIP_TEXTS = ("#ffffff", "#111418", "#000000")
# The share of a label's colour in the background of an entity.
_LIGHT_TINT, _DARK_TINT = 0.16, 0.22
# Of OKLCH: six families of lightness and chroma, which take turns. Their hues are a sixth of a circle apart, and within
# a family they differ by the golden angle.
_LIGHT_LEVELS, _DARK_LEVELS = (0.48, 0.40, 0.53), (0.80, 0.88, 0.73)
_CHROMAS = (0.14, 0.07)
_FAMILIES = len(_LIGHT_LEVELS) * len(_CHROMAS)
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
# The least lightness, of HLS, of a colour on a dark page.
_DARK_LIGHTNESS = 0.75

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shade:
    """The colours of a label in one mode, as `#rrggbb`: its chip, the text on it, and the background of an entity."""

    chip: str
    chip_text: str
    tint: str


def shades(light: str, dark: str) -> tuple[Shade, Shade]:
    """Return the colours of a label in light and in dark mode, from its colour in each."""
    return (
        Shade(light, _chip_text(light), _mix(light, LIGHT_PAGE, _LIGHT_TINT)),
        Shade(dark, _chip_text(dark), _mix(dark, DARK_PAGE, _DARK_TINT)),
    )


def distinct_colours(position: int) -> tuple[str, str]:
    """Return a colour for light and one for dark mode; those of any two positions differ, up to some hundreds."""
    turn, family = divmod(position, _FAMILIES)
    hue = turn * _GOLDEN_ANGLE + family * 2 * math.pi / _FAMILIES
    level, chroma = family % len(_LIGHT_LEVELS), _CHROMAS[family // len(_LIGHT_LEVELS)]
    light, dark = (_from_oklch(levels[level], chroma, hue) for levels in (_LIGHT_LEVELS, _DARK_LEVELS))
    return light, dark


def lighten(colour: str) -> str:
    """Return a colour for dark mode from one for light mode: the same hue, light enough."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_to_rgb(colour))
    return _to_hex(colorsys.hls_to_rgb(hue, max(lightness, _DARK_LIGHTNESS), saturation))


def contrast(a: str, b: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _chip_text(chip: str) -> str:
    return next(text for text in _CHIP_TEXTS if contrast(chip, text) >= MIN_CONTRAST)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mix(colour: str, page: str, share: float) -> str:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(_to_rgb(colour), _to_rgb(page), strict=True))
    return _to_hex((red, green, blue))


def _from_oklch(lightness: float, chroma: float, hue: float) -> str:
    """Return a colour of OKLCH, with the channels that sRGB does not have cut off (https://bottosson.github.io)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    clipped = (min(max(c, 0.0), 1.0) for c in linear)
    red, green, blue = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in clipped)
    return _to_hex((red, green, blue))


def _to_rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _to_hex(colour: Rgb) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in colour)
