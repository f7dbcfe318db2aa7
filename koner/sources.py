"""Where a corpus comes from: the embedded sample, a hub dataset, a folder in the hub's layout, KLUE's TSV files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from koner.corpus import BATCH, Faults, RawSentence, Sentence, checked
from koner.errors import KonerError
from koner.labels import TAGS

TRAIN, VALIDATION = "train", "validation"
PARTS = (TRAIN, VALIDATION)
SAMPLE = "sample"
_HUB_TIMEOUT = 10  # seconds
_TSV_PART = {TRAIN: re.compile("train", re.I), VALIDATION: re.compile("dev|valid", re.I)}
_TSV_HEAD = re.compile(r"^## (\S+)\t(.*)$")
_GUID_SOURCE = re.compile(r"-([a-z]+)$")


def read_source(source: str, config: str, revision: str | None) -> dict[str, Iterator[RawSentence]]:
    """Opens a source; gives its two published parts as streams of raw sentences.

    `source` is `sample`, a folder with KLUE's `*.tsv`, a folder in the hub's layout, or a hub dataset id, the last at
    `revision`. Raises `KonerError` where there is no such thing, or the hub can't be reached.
    """
    if source == SAMPLE:
        return {part: _read_sample(part) for part in PARTS}
    path = Path(source).expanduser()
    if path.is_dir() and any(path.glob("*.tsv")):
        return {part: _read_tsv(_tsv_file(path, part)) for part in PARTS}
    if path.is_dir():
        return _read_hub(str(path), config, None)
    if path.is_file():
        raise KonerError(f"source: {source} is a file; give the folder that holds the train and validation files")
    if not is_hub_id(source):
        raise KonerError(f"source: there is no folder {source}, and it is not of the form of a hub dataset's id")
    return _read_hub(source, config, revision)


def pass_checked(parts: dict[str, Iterator[RawSentence]], take: Callable[[str, Iterator[Sentence]], int]) -> None:
    """Hands the checked sentences of every part, as a stream, to `take`, which gives their number.

    Raises one `KonerError` that shows what is wrong in all parts, after `take` had the sound sentences of all.
    """
    faults = Faults()
    counts = {part: take(part, checked(raws, faults)) for part, raws in parts.items()}
    faults.raise_if_any()
    for part, count in counts.items():
        if not count:
            raise KonerError(f"source: the part '{part}' has no sentence")


def read_checked(parts: dict[str, Iterator[RawSentence]]) -> dict[str, list[Sentence]]:
    """Reads every part whole, as `pass_checked` does."""
    sentences: dict[str, list[Sentence]] = {}

    def keep(part: str, found: Iterator[Sentence]) -> int:
        sentences[part] = list(found)
        return len(sentences[part])

    pass_checked(parts, keep)
    return sentences


def watch_hint(source: str, watch: str) -> str | None:
    """A sentence for whoever reads a local folder that DVC does not hash; None where all is well."""
    path = Path(source).expanduser()
    if source == SAMPLE or not path.exists() or Path(watch).expanduser().resolve() == path.resolve():
        return None
    return f"DVC does not watch {source}; set `watch` to it too, so that `dvc repro` sees a change there"


def is_hub_id(name: str) -> bool:
    """Tells whether a name has the form `owner/name` (or `name`) of a repository on the hub."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None


def sample_folder() -> Path:
    """The folder of the sample corpus inside the package."""
    return Path(__file__).parent / "sample"


def _lines(path: Path) -> Iterator[str]:
    """Reads a text file's lines, without their ends; a byte that is not UTF-8 is a `KonerError` that says where."""
    if not path.is_file():
        raise KonerError(f"{path} is missing")
    with path.open(encoding="utf-8", newline="\n") as file:
        try:
            for line in file:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError:
            raise KonerError(_first_not_utf8(path)) from None


def _first_not_utf8(path: Path) -> str:
    """Says where the first byte stands that is not UTF-8: the decoder of a whole file knows it only by its block."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8"
    return f"{path} is not UTF-8"


def _read_sample(part: str) -> Iterator[RawSentence]:
    for genre in ("news", "reviews"):
        path = sample_folder() / f"{part}.{genre}.txt"
        for number, line in enumerate(_lines(path), start=1):
            yield RawSentence(f"{path.name}:{number}", f"sample-{part}-{genre}-{number:04d}", genre, annotated=line)


def _tsv_file(folder: Path, part: str) -> Path:
    found = sorted(path for path in folder.glob("*.tsv") if _TSV_PART[part].search(path.name))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise KonerError(f"source: {folder} must hold exactly one {part} file (*.tsv); found {names}")
    return found[0]


def _read_tsv(path: Path) -> Iterator[RawSentence]:
    """Reads KLUE's own format: a `## guid<TAB>annotated sentence` line, then `CHAR<TAB>TAG` lines, then a blank one."""
    id_ = annotated = where = None
    tokens: list[str] = []
    tags: list[str] = []

    def gathered() -> Iterator[RawSentence]:
        if where is not None:
            genre = _GUID_SOURCE.search(id_ or "")
            yield RawSentence(where, id_ or "", genre[1] if genre else None, tokens, tags, annotated)

    for number, line in enumerate(_lines(path), start=1):
        head = _TSV_HEAD.match(line) if line.startswith("##") else None
        if head and head[1] != "컬럼명":
            yield from gathered()
            id_, annotated, where = head[1], head[2], f"{path.name}:{number}"
            tokens, tags = [], []
        elif line == "":
            yield from gathered()
            id_ = annotated = where = None
            tokens, tags = [], []
        elif where is None and line.startswith("##"):
            continue
        else:
            if where is None:
                where, id_ = f"{path.name}:{number}", f"{path.stem}-line-{number}"
                tokens, tags = [], []
            character, tab, tag = line.rpartition("\t")
            tokens.append(character if tab else line)
            tags.append(tag if tab else "(none)")
    yield from gathered()


def _read_hub(source: str, config: str, revision: str | None) -> dict[str, Iterator[RawSentence]]:
    # Slow to import, and two of the four sources do without it.
    import datasets

    if Path(source).is_dir():
        datasets.disable_progress_bars()
    else:
        assert_reachable(source, revision, "dataset")
    try:
        dataset = datasets.load_dataset(source, config, revision=revision)
    except Exception as error:
        raise KonerError(
            f"source: {source} (configuration '{config}') can't be read as a dataset: {first_line(error)}"
        ) from None
    missing = [part for part in PARTS if part not in dataset]
    if missing:
        raise KonerError(f"source: {source} has no part '{missing[0]}'; it has {', '.join(dataset)}")
    for part in PARTS:
        absent = {"tokens", "ner_tags"} - set(dataset[part].column_names)
        if absent:
            raise KonerError(f"source: {source}, part '{part}', has no column '{min(absent)}'")
    return {part: _hub_rows(part, dataset[part]) for part in PARTS}


def _hub_rows(part: str, rows: Any) -> Iterator[RawSentence]:
    feature = getattr(rows.features["ner_tags"], "feature", None)
    names = list(getattr(feature, "names", TAGS))
    has_id, has_sentence = "guid" in rows.column_names, "sentence" in rows.column_names
    # Each row by itself takes `datasets` ten times as long.
    batches = rows.with_format("arrow").iter(batch_size=BATCH)
    for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
        tags = [_tag_name(tag, names) for tag in row["ner_tags"] or []]
        yield RawSentence(
            f"{part}, row {number}",
            row["guid"] if has_id else f"{part}-{number:05d}",
            row.get("source"),
            row["tokens"] or [],
            tags,
            row["sentence"] if has_sentence else None,
        )


def _tag_name(tag: object, names: Sequence[str]) -> str:
    """The name of a tag that a row gives by name or class id; what is neither comes back as text, to be a fault."""
    return names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else str(tag)


def assert_reachable(repository: str, revision: str | None, kind: str) -> None:
    """Asks the hub once for a repository; `kind` is `dataset` or `model`.

    Raises `KonerError` within seconds where the hub can't be reached or has no such repository or revision, so that
    nobody waits through a client's retries. Passes in offline mode (`HF_HUB_OFFLINE=1`), which reads the local cache.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    parameter = "source" if kind == "dataset" else "base_model"
    try:
        HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=_HUB_TIMEOUT)
    except RevisionNotFoundError:
        raise KonerError(f"{parameter}_revision: {repository} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise KonerError(f"{parameter}: the hub has no {kind} {repository} that may be read from here") from None
    except Exception as error:
        raise KonerError(
            f"{parameter}: the hub can't be reached for {repository} ({first_line(error)}); give a local folder in "
            f"the hub's layout, set HF_HUB_OFFLINE=1 to use a copy in the local cache, or run `koner recipe sample`"
        ) from None


def first_line(error: BaseException) -> str:
    with contextlib.suppress(IndexError):
        return str(error).strip().splitlines()[0][:200]
    return type(error).__name__
