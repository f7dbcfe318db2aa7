"""The model in service: verified, loaded, run once, and shared by all requests through a batcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app

from app import metrics
from app.feedback import Feedback, create_feedback
from app.greenlets import await_result
from app.preload import VerifiedModel, preloaded_model, verify_model
from app.settings import Settings
from app.speed import WARM_UP_TEXT, is_fast
from koner.drift.unknown import unknown_id
from koner.inference.batching import Batcher
from koner.inference.tagger import EncodedText, Tagger
from koner.labels.styles import STYLES_FILE, LabelStyle, read_styles

_EXTENSION = "koner"
# The maximum share of padding with a fast model, and with another.
_FAST_PADDING, _SLOW_PADDING = 0.25, 0.1


@dataclass(frozen=True)
class Serving(VerifiedModel):
    """A model in service. It is never modified, so that a response never mixes two models.

    Attributes:
        tagger: The loaded model.
        batcher: The batcher of all requests.
        styles: The names and colours of the model's types, in the order to show them.
        feedback: The folder for texts with low scores, if the settings name one.
        refusal: Why the model that was to replace this one was refused, if the last reload failed.
    """

    tagger: Tagger
    batcher: Batcher
    styles: tuple[LabelStyle, ...]
    feedback: Feedback | None = None
    refusal: str | None = None


def start_serving(settings: Settings, tagger: Tagger | None = None) -> Serving:
    """Load the model that the settings name, or the one that a parent process has preloaded, and run it once.

    Args:
        settings: The settings; those of a preloaded model take precedence.
        tagger: The loaded model of the model folder, if there is one already.

    Raises:
        KonerError: If the model may not be served or does not run.
    """
    verified: VerifiedModel
    source: Tagger | Path
    styles: tuple[LabelStyle, ...] | None = None
    preloaded = preloaded_model()
    if preloaded and not tagger:
        verified, source, styles = preloaded, preloaded.source, preloaded.styles
    else:
        verified, source = verify_model(settings), tagger or settings.model
    if isinstance(source, Path):
        source = Tagger.load(source, threads=verified.settings.threads_per_worker)
    source.tag(WARM_UP_TEXT)
    if styles is None:
        styles = read_styles(settings.model / STYLES_FILE, source.label_set)
    refusal = preloaded.refusal if preloaded else None
    metrics.show_model(verified.model, refusal is not None)
    batcher = _create_batcher(source, verified.settings)
    feedback = create_feedback(verified.settings, verified.model.hash)
    return Serving(verified.settings, verified.model, verified.facts, source, batcher, styles, feedback, refusal)


def _create_batcher(tagger: Tagger, settings: Settings) -> Batcher:
    def observe_batch(windows: int, tokens: int, seconds: float) -> None:
        metrics.observe_batch(windows, tokens, seconds)
        metrics.QUEUED_TOKENS.set(batcher.queued_tokens)

    unknown = unknown_id(tagger.tokenizer.backend)

    def count_unknown_tokens(text: EncodedText) -> None:
        # A token in two windows counts twice; few texts have any.
        if count := sum(window.input_ids.count(unknown) for window in text.windows):
            metrics.UNKNOWN_TOKENS.inc(count)

    batcher = Batcher(
        tagger,
        max_queued_tokens=settings.queue_tokens,
        max_tokens=settings.request_tokens,
        batch_tokens=settings.batch_tokens,
        turn_tokens=settings.turn_tokens,
        padding=choose_padding(tagger) if settings.batch_padding is None else settings.batch_padding,
        wait=settings.wait_ms / 1000,
        on_batch=observe_batch,
        on_encode=None if unknown is None else count_unknown_tokens,
        max_callers=settings.queue_requests,
        await_result=await_result,
    )
    return batcher


def choose_padding(tagger: Tagger) -> float:
    """Return the maximum share of padding by the speed of the model.

    Padding costs the time of the model, and a further batch costs time that does not depend on the model.
    """
    return _FAST_PADDING if is_fast(tagger) else _SLOW_PADDING


def set_serving(app: Flask, serving: Serving) -> None:
    """Attach a model in service to an application."""
    app.extensions[_EXTENSION] = serving


def current_serving() -> Serving:
    """Return the model in service of the current application."""
    serving: Serving = current_app.extensions[_EXTENSION]
    return serving
