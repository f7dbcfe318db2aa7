"""The model that gunicorn's master verifies, copies, tries and, if possible, loads before it forks its workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from app.settings import Settings, load_settings, read_tokens_file
from app.speed import WARM_UP_TEXT, is_fast
from koner.errors import KonerError, first_line
from koner.inference.tagger import Tagger
from koner.labels.styles import STYLES_FILE, LabelStyle, read_styles
from koner.release.hashing import folder_hash
from koner.release.locking import METRICS_FILE, ModelFolder, ServedFacts, check_locked, locked_hash, served_facts
from koner.versions import describe_other_versions

# The time to hash, copy, load and run a model.
_TRIAL_SECONDS = 600
_STANDARD_ERROR = 2  # the file descriptor


@dataclass(frozen=True)
class VerifiedModel:
    """A model folder that may be served, the facts about it, and the settings, with the tokens of the tokens file."""

    settings: Settings
    model: ModelFolder
    facts: ServedFacts


@dataclass(frozen=True)
class PreloadedModel(VerifiedModel):
    """A verified model that has been copied and run once.

    Attributes:
        source: The loaded model, if workers can use it after a fork and so share its memory. Otherwise a copy of the
            model folder, which each worker loads.
        runtime: The description of the runtime that ran the model.
        styles: The names and colours of the model's types, in the order to show them.
        other_versions: The packages of which other versions are installed than the figures were measured with, if any.
        refusal: Why the model that was to replace this one was refused, if the last reload failed.
    """

    source: Tagger | Path
    runtime: str
    styles: tuple[LabelStyle, ...]
    other_versions: str | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class _Trial:
    """The result of verifying, copying, loading and running a model in a child process."""

    verified: VerifiedModel
    other_versions: str | None
    runtime: str
    styles: tuple[LabelStyle, ...]
    is_forkable: bool


# Workers inherit this when gunicorn's master forks them.
_preloaded_model: PreloadedModel | None = None


def preloaded_model() -> PreloadedModel | None:
    """Return the model that this process or its parent has preloaded, if any."""
    return _preloaded_model


def preload_model(settings: Settings, scratch: Path) -> PreloadedModel:
    """Verify, copy and try the model, for workers that are forked from this process at any later time.

    The workers serve exactly the files that were verified, even if the model folder changes later.

    Args:
        settings: The settings, which name the model.
        scratch: The folder for copies of models.

    Raises:
        KonerError: If the model may not be served or does not run, whatever the reason. The model that was preloaded
            before stays.
    """
    global _preloaded_model
    with _new_copy(settings.model, scratch) as copy:
        trial = _try_in_child(settings, copy)
        source = Tagger.load(copy, threads=trial.verified.settings.threads_per_worker) if trial.is_forkable else copy
    # The previous copy stays: a worker may be loading it.
    previous = _preloaded_model.source if _preloaded_model else None
    for old in set(scratch.glob("model-*")) - {source, previous}:
        shutil.rmtree(old, ignore_errors=True)
    verified = trial.verified
    _preloaded_model = PreloadedModel(
        verified.settings, verified.model, verified.facts, source, trial.runtime, trial.styles, trial.other_versions
    )
    return _preloaded_model


def reload_model(scratch: Path) -> PreloadedModel:
    """Preload the model again; if that fails for any reason, keep the model that was preloaded before.

    Args:
        scratch: The folder for copies of models.

    Returns:
        The model for new workers, which has the reason as its `refusal` if it is the one from before.
    """
    global _preloaded_model
    try:
        return preload_model(load_settings(), scratch)
    except Exception as error:
        if _preloaded_model is None:
            raise
        _preloaded_model = replace(_preloaded_model, refusal=" ".join(str(error).split()) or type(error).__name__)
        return _preloaded_model


@contextmanager
def _new_copy(model: Path, scratch: Path) -> Iterator[Path]:
    """Create a folder for a copy of a model; after an error it is removed, and the error is told in one sentence."""
    copy = None
    try:
        copy = Path(tempfile.mkdtemp(prefix="model-", dir=scratch))
        yield copy
    except BaseException as error:
        if copy:
            shutil.rmtree(copy, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        reason = str(error) if isinstance(error, KonerError) else f"{model} cannot be loaded: {first_line(error)}"
        # The user knows the folder, not its copy.
        raise KonerError(reason.replace(str(copy), str(model))) from None


def verify_model(settings: Settings) -> VerifiedModel:
    """Compare the model with the lock file, and read the facts about it and the tokens file.

    Raises:
        KonerError: If the model is missing or, unless the settings allow it, is not the pinned one; or if the file of
            metrics or of tokens is not valid.
    """
    settings = read_tokens_file(settings)
    model = check_locked(Path(), settings.model, settings.allow_unlocked, settings.lock)
    facts = served_facts(settings.lock)
    # Metrics that the lock file does not pin together with the model belong to another model.
    metrics = facts.metrics if model.is_locked and _is_pinned(settings.lock, METRICS_FILE) else None
    # The lock file of the commit that is checked out pins another model than an unlocked one.
    revision = settings.revision or (facts.revision if model.is_locked else None)
    return VerifiedModel(settings, model, ServedFacts(revision, metrics))


def _is_pinned(lock: Path, path: Path) -> bool:
    try:
        return locked_hash(lock, path.as_posix()) == folder_hash(lock.parent / path)
    except (KonerError, OSError):
        return False


def _copy_model(model: ModelFolder, copy: Path) -> None:
    try:
        shutil.copytree(model.path, copy, dirs_exist_ok=True)
    except OSError as error:
        raise KonerError(f"{model.path} cannot be copied to {copy}: {error}") from None
    if folder_hash(copy) != model.hash:
        raise KonerError(f"{model.path} changed while it was copied; try again")


def _try_in_child(settings: Settings, copy: Path) -> _Trial:
    """Verify the model and copy it to `copy`, and load and run the copy, in a child process.

    Threads, and CUDA as a whole, do not survive a fork: a process that has used them cannot fork working copies of
    itself any more. So this process does not run the model before it is known to work without them. Nor does it read
    any of the files before: a file can be such that reading it crashes, takes all memory or never ends.

    Raises:
        KonerError: If the model may not be served or does not run.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_trial, args=(settings, copy, sender), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(_TRIAL_SECONDS):
            raise KonerError(f"{settings.model} could not be loaded in {_TRIAL_SECONDS} seconds")
        result: _Trial | str = receiver.recv()
    except EOFError:
        child.join()
        raise KonerError(
            f"{settings.model} cannot be run: the process that tried it died ({_describe_exit(child.exitcode)})"
        ) from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if isinstance(result, str):
        raise KonerError(result)
    return result


def _describe_exit(code: int | None) -> str:
    return f"signal {-code}" if code and code < 0 else f"status {code}"


def _send_trial(settings: Settings, copy: Path, sender: Connection) -> None:
    # Libraries write about a broken model there what the error says as well.
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STANDARD_ERROR)
    try:
        verified = verify_model(settings)
        _copy_model(verified.model, copy)
        tagger = Tagger.load(copy, threads=settings.threads_per_worker)
        tagger.tag(WARM_UP_TEXT)
        if settings.threads is None and settings.threads_per_worker > 1 and is_fast(tagger):
            # Requests need as much time outside of the model: leave them a core.
            threads = settings.threads_per_worker - 1
            verified = replace(verified, settings=verified.settings.model_copy(update={"threads": threads}))
            del tagger  # and its threads, with which the model could not be inherited
            tagger = Tagger.load(copy, threads=threads)
            tagger.tag(WARM_UP_TEXT)
        sender.send(
            _Trial(
                verified,
                describe_other_versions(settings.lock),
                tagger.runtime.description,
                read_styles(copy / STYLES_FILE, tagger.label_set),
                is_forkable=_is_single_threaded(),
            )
        )
    except KonerError as error:
        sender.send(str(error))
    # Whatever it is: also an exception of a library in Rust, which is no `Exception`.
    except BaseException as error:
        sender.send(f"{settings.model} cannot be loaded: {first_line(error)}")


def _is_single_threaded() -> bool:
    """Return whether this process has only one thread, including those of libraries; False if it is unknown."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1
