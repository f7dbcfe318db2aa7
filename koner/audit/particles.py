"""Korean particles at the end of a word, by which two annotations of a name often differ."""

from __future__ import annotations

from koner.training.particles import agree_particle

# Case particles, auxiliary particles and forms of 이다 that follow names.
# fmt: off
_PARTICLES = (
    "은", "는", "이", "가", "을", "를", "과", "와", "의", "에", "에서", "에게", "에게서", "께", "께서", "한테",
    "으로", "로", "으로서", "로서", "으로써", "로써", "도", "만", "부터", "까지", "보다", "처럼", "마다", "조차",
    "마저", "밖에", "이나", "나", "이랑", "랑", "이라는", "라는", "이라고", "라고", "이란", "란", "이며", "이고",
    "이다", "에는", "에도", "에서는", "에서도", "에서의", "으로는", "로는", "으로의", "로의", "에게는", "까지의",
    "부터의", "만의", "과의", "와의", "이라도", "라도", "하고", "쯤", "씩",
)
# fmt: on
PARTICLES = tuple(sorted(_PARTICLES, key=len, reverse=True))


def particle_after(text: str, end: int) -> str | None:
    """Return the particle that begins at `end` of a text and ends its word there, or None if there is none.

    A particle whose form depends on the sound before it must have the form that the word before it takes.

    Args:
        text: The text.
        end: The end of a name within a word, in code points.
    """
    word_end = end
    while word_end < len(text) and text[word_end].isalpha():
        word_end += 1
    rest = text[end:word_end]
    return rest if rest in PARTICLES and agree_particle(text[:end], rest) == rest else None


def without_particle(surface: str) -> list[str]:
    """Return what is left of a surface without a particle at its end, once for each particle that it may end with."""
    return [
        stem
        for particle in PARTICLES
        if len(stem := surface.removesuffix(particle)) < len(surface)
        and stem.strip() == stem != ""
        and agree_particle(stem, particle) == particle
    ]
