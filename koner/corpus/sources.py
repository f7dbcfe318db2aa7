"""Sources of a corpus: those that ship with the package, a data set on the hub, or files in any known format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from koner.corpus.checks import FaultReport, check_all
from koner.corpus.formats.base import Format, Head, ReadOptions
from koner.corpus.formats.inline_lines import INLINE
from koner.corpus.formats.records import names_parts
from koner.corpus.formats.registry import AUTO, HUB, find_format, recognise
from koner.corpus.hub_dataset import is_hub_layout, read_hub_dataset
from koner.corpus.part_files import find_part_files, part_of_name
from koner.corpus.parts import PUBLISHED_PARTS, TRAIN, VALIDATION
from koner.corpus.raw import RawSentence
from koner.corpus.sentences import Sentence
from koner.corpus.source_report import Rules, SourceReport
from koner.corpus.text_files import read_lines
from koner.errors import KonerError
from koner.params import INCLUDED_CORPORA
from koner.storage.hub import is_hub_id
from koner.storage.paths import local_path

_UTF_8 = ("utf-8", "utf8", "utf_8", "utf-8-sig")


def read_source(
    source: str,
    config: str,
    revision: str | None,
    *,
    source_format: str = AUTO,
    encoding: str = "utf-8",
    report: SourceReport | None = None,
) -> dict[str, Iterator[RawSentence]]:
    """Return a stream of raw sentences for each published part of a source.

    The part of a file depends on its name, or on the field `split` of its records if it is the only file. Without
    either, it is the training part.

    Args:
        source: `sample`, `consult`, a file or a folder, or the id of a hub data set.
        config: The configuration of a data set in the hub's layout.
        revision: The revision of a hub data set.
        source_format: The format of the files; `auto` recognises it by their content.
        encoding: The encoding of text files.
        report: Where the format and what was changed are noted.

    Raises:
        KonerError: If the source does not exist, the hub cannot be reached, the format is not recognised, or there is
            no training part.
    """
    options = ReadOptions("utf-8" if encoding.lower() in _UTF_8 else encoding.lower(), report or SourceReport())
    if source in INCLUDED_CORPORA:
        options.report.format = INLINE.name
        return {part: _read_included(source, part) for part in (TRAIN, VALIDATION)}
    path = local_path(source)
    if not os.path.exists(path):
        if not is_hub_id(source):
            raise KonerError(
                f"source: there is no file or folder {source}, and it is not of the form of a hub dataset's id"
            )
        parts = read_hub_dataset(source, config, revision, options.report)
    elif source_format == HUB or (source_format == AUTO and is_hub_layout(path)):
        parts = read_hub_dataset(str(path), config, None, options.report)
    else:
        return _read_files(path, source_format, options)
    options.report.format = HUB
    return parts


def _read_files(source: Path, source_format: str, options: ReadOptions) -> dict[str, Iterator[RawSentence]]:
    files = find_part_files(source)
    format_ = _common_format([path for paths in files.values() for path in paths], source_format, options.encoding)
    options.report.format = format_.name
    if TRAIN not in files:
        raise KonerError(f"source: {source} has no training part; it has {', '.join(files)}")
    if list(files) == [TRAIN]:
        return _divide_by_split(files[TRAIN], format_, options)
    return {part: _read_all(paths, format_, options) for part, paths in files.items()}


def _common_format(paths: list[Path], source_format: str, encoding: str) -> Format:
    """Return the format of all files.

    Raises:
        KonerError: If two differ, one is not recognised, or all are empty.
    """
    if source_format != AUTO:
        return find_format(source_format)
    found: dict[str, Path] = {}
    for path in paths:
        if format_ := recognise(path, encoding):
            found.setdefault(format_.name, path)
    if not found:
        raise KonerError(f"source: {paths[0]} is empty")
    if len(found) > 1:
        listing = " and ".join(f"{path} in the format {name}" for name, path in list(found.items())[:2])
        raise KonerError(f"source: its files have several formats: {listing}; keep one, or set `source_format`")
    return find_format(next(iter(found)))


def _read_all(paths: list[Path], format_: Format, options: ReadOptions) -> Iterator[RawSentence]:
    return chain.from_iterable(format_.read(path, options) for path in paths)


def _divide_by_split(paths: list[Path], format_: Format, options: ReadOptions) -> dict[str, Iterator[RawSentence]]:
    """Return the parts that the records name; the files are read once for each part, so that none is kept in memory.

    Raises:
        KonerError: If a record names an unknown part, or only some name one, or none is the training part.
    """
    # Changes are counted by the reading that follows.
    silent = ReadOptions(options.encoding)
    if not names_parts(Head.of(paths[0], options.encoding)):
        return {TRAIN: _read_all(paths, format_, options)}
    names: dict[str, str] = {}
    for raw in _read_all(paths, format_, silent):
        if raw.fault or raw.part in names:
            continue
        part = part_of_name(raw.part or "")
        if part is None:
            raise KonerError(f"{raw.where}: the split is {raw.part!r}; it must be train, validation or test")
        names[str(raw.part)] = part
    found = [part for part in PUBLISHED_PARTS if part in names.values()]
    if TRAIN not in found:
        raise KonerError(f"source: {paths[0]} has no training part; it has {', '.join(found)}")

    def of_part(part: str) -> Iterator[RawSentence]:
        reading = options if part == TRAIN else silent
        for raw in _read_all(paths, format_, reading):
            # A faulty record may have no part; it is reported once.
            if names.get(raw.part or "", TRAIN) == part:
                yield raw

    return {part: of_part(part) for part in found}


def stream_checked(
    parts: dict[str, Iterator[RawSentence]],
    consume: Callable[[str, Iterator[Sentence]], int],
    rules: Rules | None = None,
    report: SourceReport | None = None,
) -> None:
    """Check all sentences and pass the valid ones of each part, as a stream, to `consume`.

    Args:
        parts: The raw sentences of each part.
        consume: Called with the name of a part and its sentences; returns their number.
        rules: What to do with overlapping entities and illegal tags.
        report: Where changes are noted.

    Raises:
        KonerError: If a sentence is not valid or a part is empty. The error is raised after all parts have been
            consumed and shows the first faults of the whole source.
    """
    faults = FaultReport()
    rules = rules or Rules()
    counts = {part: consume(part, check_all(raws, faults, rules, report)) for part, raws in parts.items()}
    faults.raise_if_any()
    for part, count in counts.items():
        if not count:
            raise KonerError(f"source: the part '{part}' has no sentence")


def read_checked(
    parts: dict[str, Iterator[RawSentence]], rules: Rules | None = None, report: SourceReport | None = None
) -> dict[str, list[Sentence]]:
    """Return the checked sentences of each part as lists; raises as `stream_checked` does."""
    sentences: dict[str, list[Sentence]] = {}

    def collect(part: str, stream: Iterator[Sentence]) -> int:
        sentences[part] = list(stream)
        return len(sentences[part])

    stream_checked(parts, collect, rules, report)
    return sentences


def watch_hint(source: str, watch: str) -> str | None:
    """Return a warning if the source is a local folder that DVC does not hash, else None."""
    path = local_path(source)
    if source in INCLUDED_CORPORA or not os.path.exists(path) or Path(watch).resolve() == path.resolve():
        return None
    # DVC does not expand `~`.
    return f"DVC does not watch {source}; set `watch` to {path}, so that `dvc repro` sees a change there"


def _read_included(corpus: str, part: str) -> Iterator[RawSentence]:
    for path in sorted(INCLUDED_CORPORA[corpus].glob(f"{part}.*.txt")):
        genre = path.name.split(".")[1]
        for number, line in enumerate(read_lines(path), start=1):
            yield RawSentence(f"{path.name}:{number}", f"{corpus}-{part}-{genre}-{number:04d}", genre, annotated=line)
