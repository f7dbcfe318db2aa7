"""Texts with low scores, kept in a folder so that they can be annotated: `koner select` reads it.

Requests only put a text into a queue. One thread of each worker writes them, as files of JSON lines that have their
names only when they are complete.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

from app.settings import Settings
from koner.inference.tagger import TaggedText

_logger = logging.getLogger("gunicorn.error")

_PREFIX, _SUFFIX = "feedback-", ".jsonl"
# `koner select` and `koner tag` do not read names that begin with a point.
_DRAFT_PREFIX = ".draft-"
_DRAFT_SECONDS = 3600
# Texts that wait to be written; others are dropped, so that a slow disk does not take the memory.
_QUEUE_TEXTS = 256
_FLUSH_SECONDS = 2.0
# A file grows to this size, or to a share of the folder's if that is less, so that the oldest can be deleted.
_FILE_BYTES = 1 << 16
_FILES = 8
_SCORE_DECIMALS = 6


class Feedback:
    """The folder of the texts that the model of a worker is uncertain about.

    Args:
        folder: The folder; it is created with the first text, and other workers may write into it, too.
        max_score: The score below which a text is kept.
        share: The share of these texts that is kept, drawn at random.
        max_bytes: The maximum size of the files in the folder; the oldest are deleted.
        model: The hash of the model.
    """

    def __init__(self, folder: Path, max_score: float, share: float, max_bytes: int, model: str) -> None:
        self._folder = folder
        self._max_score = max_score
        self._share = share
        self._max_bytes = max_bytes
        self._model = model
        self._queue: queue.Queue[tuple[str, float] | None] = queue.Queue(_QUEUE_TEXTS)
        self._content = b""
        self._name = ""
        self._has_failed = False
        self._thread = Thread(target=self._write_all, name="koner-feedback", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def record(self, texts: Sequence[str], tagged_texts: Sequence[TaggedText]) -> None:
        """Keep those of the texts that have low scores; return at once."""
        for text, tagged in zip(texts, tagged_texts, strict=True):
            if tagged.score < self._max_score and random.random() < self._share:  # noqa: S311
                with suppress(queue.Full):
                    self._queue.put_nowait((text, tagged.score))

    def close(self) -> None:
        """Write the texts that wait."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=_FLUSH_SECONDS)
            self._thread.join(2 * _FLUSH_SECONDS)

    def _write_all(self) -> None:
        is_open = True
        while is_open:
            lines, is_open = self._next_lines()
            if lines:
                self._try_to_write(b"".join(lines))

    def _next_lines(self) -> tuple[list[bytes], bool]:
        """Wait for a text; return the lines of those that come within two seconds, and whether others may come."""
        lines: list[bytes] = []
        end = 0.0
        while len(lines) < _QUEUE_TEXTS:
            try:
                item = self._queue.get(timeout=max(0.0, end - time.monotonic()) if lines else None)
            except queue.Empty:
                break
            if item is None:
                return lines, False
            end = end or time.monotonic() + _FLUSH_SECONDS
            lines.append(self._line(*item))
        return lines, True

    def _line(self, text: str, score: float) -> bytes:
        row = {
            "text": text,
            "score": round(score, _SCORE_DECIMALS),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self._model,
        }
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def _try_to_write(self, lines: bytes) -> None:
        """Write lines; if that is not possible, drop them and log it once, until it is possible again."""
        try:
            self._write(lines)
            self._has_failed = False
        except OSError as error:
            self._content = b""
            if not self._has_failed:
                self._has_failed = True
                _logger.error("koner: this worker keeps no texts in KONER_FEEDBACK for now: %s", error)

    def _write(self, lines: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._content:
            # The names are in the order of the time; two workers never have the same.
            self._name = f"{_PREFIX}{time.time_ns()}-{os.getpid()}{_SUFFIX}"
        self._content += lines
        draft = self._folder / f"{_DRAFT_PREFIX}{os.getpid()}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(self._content)
            draft.replace(self._folder / self._name)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        if len(self._content) >= min(_FILE_BYTES, self._max_bytes // _FILES):
            self._content = b""
        self._delete_oldest()

    def _delete_oldest(self) -> None:
        now = time.time()
        size = 0
        for path in sorted(self._folder.iterdir(), key=lambda path: path.name, reverse=True):
            # Another worker may have deleted it.
            with suppress(FileNotFoundError):
                if path.name.startswith(_DRAFT_PREFIX):
                    if path.stat().st_mtime < now - _DRAFT_SECONDS:
                        path.unlink()
                elif path.name.startswith(_PREFIX):
                    size += path.stat().st_size
                    if size > self._max_bytes:
                        path.unlink()


def create_feedback(settings: Settings, model: str) -> Feedback | None:
    """Return the folder for texts with low scores, or None if the settings name none."""
    if settings.feedback is None:
        return None
    return Feedback(settings.feedback, settings.feedback_score, settings.feedback_share, settings.feedback_bytes, model)
