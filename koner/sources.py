"""Where a corpus comes from: the embedded sample, a hub dataset, a folder in the hub's layout, KLUE's TSV files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from koner.corpus import Faults, RawSentence, Sentence, checked
from koner.errors import KonerError
from koner.labels import TAGS
from koner.parquet import BATCH

TRAIN, VALIDATION = "train", "validation"
PARTS = (TRAIN, VALIDATION)
SAMPLE = "sample"
_HUB_TIMEOUT = 10  # seconds
_CHUNK = 1 << 18  # code points
_RETURNS = re.compile(r"\r++(?=\n|\Z)")
_TSV_PART = {TRAIN: re.compile("train", re.I), VALIDATION: re.compile("dev|valid", re.I)}
_TSV_HEAD = re.compile(r"^## (\S+)\t(.*)$")
_TSV_COLUMNS = "컬럼명"
_TSV_BODY = re.compile(r"[^\t\n]\t[^\t\n]*+(?:\n[^\t\n]\t[^\t\n]*+)*+")
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


def _texts(path: Path) -> Iterator[str]:
    """Reads a text file in pieces of whole lines, each ended by `\\n` alone.

    What is not UTF-8 is a `KonerError` that says where.
    """
    if not path.is_file():
        raise KonerError(f"{path} is missing")
    with path.open(encoding="utf-8", newline="\n") as file:
        try:
            while text := file.read(_CHUNK):
                text += file.readline()
                yield _RETURNS.sub("", text) if "\r" in text else text
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
        for number, line in enumerate(chain.from_iterable(map(_lines, _texts(path))), start=1):
            yield RawSentence(f"{path.name}:{number}", f"sample-{part}-{genre}-{number:04d}", genre, annotated=line)


def _tsv_file(folder: Path, part: str) -> Path:
    found = sorted(path for path in folder.glob("*.tsv") if _TSV_PART[part].search(path.name))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise KonerError(f"source: {folder} must hold exactly one {part} file (*.tsv); found {names}")
    return found[0]


def _read_tsv(path: Path) -> Iterator[RawSentence]:
    """Reads KLUE's own format: a `## guid<TAB>annotated sentence` line, then `CHAR<TAB>TAG` lines, then a blank one."""
    begun = _Begun(path)
    number, rest = 1, ""
    for text in _texts(path):
        *blocks, rest = (rest + text).split("\n\n")
        for block in blocks:
            # A file may do without blank lines, and then a sentence is begun before the block.
            usual = None if begun.where else _usual(block, f"{path.name}:{number}")
            yield from [usual] if usual else begun.add(number, f"{block}\n\n")
            number += block.count("\n") + 2
        if len(rest) > _CHUNK:
            yield from begun.add(number, rest)
            number, rest = number + rest.count("\n"), ""
    yield from begun.add(number, rest)
    yield from begun.end()


def _usual(block: str, where: str) -> RawSentence | None:
    """The sentence of a block of a head and, each with one tab, characters; None where it is anything else."""
    head, _, body = block.partition("\n")
    found = _TSV_HEAD.match(head)
    if not found or found[1] == _TSV_COLUMNS or not _TSV_BODY.fullmatch(body):
        return None
    cells = body.replace("\n", "\t").split("\t")
    return RawSentence(where, found[1], _genre(found[1]), cells[::2], cells[1::2], found[2])


def _lines(text: str) -> list[str]:
    """The lines of a text of whole ones."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


@dataclass
class _Begun:
    """The sentence of a TSV file that is being read, line by line; `where` is None between two."""

    path: Path
    where: str | None = None
    id: str = ""
    annotated: str | None = None
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def add(self, number: int, text: str) -> Iterator[RawSentence]:
        """Takes whole lines, of which the first has the `number`; gives the sentences that end in them."""
        for at, line in enumerate(_lines(text), start=number):
            head = _TSV_HEAD.match(line)
            if not line or (head and head[1] != _TSV_COLUMNS):
                yield from self.end()
            if not line:
                continue
            if head and head[1] != _TSV_COLUMNS:
                self.where, self.id, self.annotated = f"{self.path.name}:{at}", head[1], head[2]
            elif self.where is not None or not line.startswith("##"):
                if self.where is None:
                    self.where, self.id = f"{self.path.name}:{at}", f"{self.path.stem}-line-{at}"
                character, tab, tag = line.rpartition("\t")
                self.tokens.append(character if tab else line)
                self.tags.append(tag if tab else "(none)")

    def end(self) -> Iterator[RawSentence]:
        """Gives the sentence, if one is begun."""
        if self.where is not None:
            yield RawSentence(self.where, self.id, _genre(self.id), self.tokens, self.tags, self.annotated)
        self.where, self.id, self.annotated, self.tokens, self.tags = None, "", None, [], []


def _genre(id_: str) -> str | None:
    found = _GUID_SOURCE.search(id_)
    return found[1] if found else None


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
