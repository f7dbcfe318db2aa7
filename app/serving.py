"""What the service serves: a model that was checked against the lock, loaded and run once, behind a batcher."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from app import access_log, metrics, security
from app.settings import Settings
from koner.batching import Batcher, QueueFull
from koner.errors import KonerError
from koner.locking import (
    METRICS_FILE,
    LockedModel,
    ServedFacts,
    check_locked,
    folder_hash,
    locked_hash,
    served_facts,
)
from koner.tagger import Tagged, Tagger

_WARM_UP = "홍길동은 지난해 서울에서 3명을 만났다."


class CountingBatcher(Batcher):
    """A batcher that tells the metrics and the access log what it runs, finds and refuses."""

    def __init__(self, tagger: Tagger, settings: Settings) -> None:
        super().__init__(
            tagger,
            max_queued_tokens=settings.queue_tokens,
            batch_tokens=settings.batch_tokens,
            padding=settings.batch_padding,
            wait=settings.wait_ms / 1000,
            on_batch=self._observe_batch,
            max_callers=settings.queue_requests,
        )

    def _observe_batch(self, windows: int, tokens: int, seconds: float) -> None:
        metrics.observe_batch(windows, tokens, seconds)
        metrics.QUEUED.set(self.queued_tokens)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """Tags texts as `Batcher.tag` does."""
        try:
            found = super().tag(texts)
        except QueueFull:
            metrics.REJECTED.inc()
            raise
        entities = [entity for tagged in found for entity in tagged.entities]
        for entity in entities:
            metrics.ENTITIES.labels(entity.label).inc()
        access_log.note(texts, len(entities))
        return found


@dataclass(frozen=True)
class Checked:
    """A model folder that may be served, what is known of it, and the settings, with every bearer token among them."""

    settings: Settings
    model: LockedModel
    facts: ServedFacts


@dataclass(frozen=True)
class Serving(Checked):
    """A model in service: one value, made whole and never changed, so that an answer is of one model alone."""

    tagger: Tagger
    batcher: CountingBatcher


@dataclass(frozen=True)
class Prepared(Checked):
    """What gunicorn's master made ready for its workers, having seen it run.

    `source` is the loaded model where forked workers can use it, and so share its memory; else a copy of the model
    folder, for each of them to load.
    """

    source: Tagger | Path
    runtime: str


_prepared: Prepared | None = None


def load(settings: Settings, tagger: Tagger | None = None) -> Serving:
    """Puts the model that the settings name into service, or the one that `prepare` made ready in a parent process.

    A `tagger` that is given is taken for the one of the model folder. Raises `KonerError` where the model is missing,
    isn't what the lock file pins, or can't be run.
    """
    ready: Checked
    if _prepared and not tagger:
        ready, source = _prepared, _prepared.source
    else:
        ready, source = _check(settings), tagger or settings.model
    tagger = Tagger.load(source, threads=threads(ready.settings)) if isinstance(source, Path) else source
    tagger.tag(_WARM_UP)
    metrics.show_model(ready.model)
    return Serving(ready.settings, ready.model, ready.facts, tagger, CountingBatcher(tagger, ready.settings))


def prepared() -> Prepared | None:
    """What `prepare` made ready last."""
    return _prepared


def prepare(settings: Settings, scratch: Path) -> Prepared:
    """Checks, copies and tries the model, for workers that are forked from this process at any later time.

    They serve the very files that were checked, whatever becomes of the model folder meanwhile; the copy lies under
    `scratch`. Raises `KonerError` as `load` does, and leaves what was prepared before as it was.
    """
    global _prepared
    ready = _check(settings)
    copy = Path(tempfile.mkdtemp(prefix="model-", dir=scratch))
    try:
        _copy(ready.model, copy)
        runtime, forkable = _tried(ready.model, copy, threads(settings))
    except KonerError:
        shutil.rmtree(copy)
        raise
    source = Tagger.load(copy, threads=threads(settings)) if forkable else copy
    # The copy of before stays: a worker may be just loading it.
    for old in set(scratch.glob("model-*")) - {source, _prepared and _prepared.source}:
        shutil.rmtree(old)
    _prepared = Prepared(ready.settings, ready.model, ready.facts, source, runtime)
    return _prepared


def threads(settings: Settings) -> int:
    """The threads of the model in each process: as set, else a fair share of the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.threads or max(1, cores // settings.workers)


def _check(settings: Settings) -> Checked:
    settings = security.read_tokens(settings)
    model = check_locked(Path(), settings.model, settings.allow_unlocked, settings.lock)
    facts = served_facts(settings.lock.parent)
    # Figures that the lock doesn't pin beside the model are of another.
    figures = facts.metrics if model.locked and _pins(settings.lock, METRICS_FILE) else None
    return Checked(settings, model, ServedFacts(settings.revision or facts.revision, figures))


def _pins(lock: Path, path: Path) -> bool:
    try:
        return locked_hash(lock, path.as_posix()) == folder_hash(lock.parent / path)
    except (KonerError, OSError):
        return False


def _copy(model: LockedModel, copy: Path) -> None:
    try:
        shutil.copytree(model.folder, copy, dirs_exist_ok=True)
    except OSError as error:
        raise KonerError(f"{model.folder} can't be copied to {copy}: {error}") from None
    if folder_hash(copy) != model.hash:
        raise KonerError(f"{model.folder} changed while it was read")


def _tried(model: LockedModel, copy: Path, threads: int) -> tuple[str, bool]:
    """Sees a copied model load and run; tells on what, and whether it will still run in processes forked from it.

    In a process of its own, as threads, and CUDA altogether, are lost in a fork: one that has used them can't be forked
    any more.
    """
    forking = get_context("fork")
    receiving, sending = forking.Pipe(duplex=False)
    child = forking.Process(target=_try, args=(copy, threads, sending))
    child.start()
    sending.close()
    try:
        runtime, forkable, error = receiving.recv()
    except EOFError:
        runtime, forkable, error = "", False, f"{copy} can't be run: the process that tried to has died"
    child.join()
    if error:
        raise KonerError(error.replace(str(copy), str(model.folder)))
    return runtime, forkable


def _try(folder: Path, threads: int, answer: Connection) -> None:
    try:
        tagger = Tagger.load(folder, threads=threads)
        tagger.tag(_WARM_UP)
    except KonerError as error:
        answer.send(("", False, str(error)))
    # Whatever a broken model raises, it must not end what is in service.
    except Exception as error:
        answer.send(("", False, f"{folder} can't be run: {error}"))
    else:
        answer.send((tagger.runtime.description, _single_threaded(), ""))


def _single_threaded() -> bool:
    """Tells whether this process has one thread alone, those of libraries counted; where nothing tells, it hasn't."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1
