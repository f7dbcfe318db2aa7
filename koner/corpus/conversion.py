"""Writing of a corpus in one of the formats: a file, or a folder with a file for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from koner.corpus.formats.registry import FORMATS, HUB, find_format
from koner.corpus.formats.token_rows import TOKEN_PARQUET
from koner.corpus.sentences import Sentence
from koner.errors import KonerError
from koner.storage.outputs import atomic_directory, write_text

WRITABLE = (HUB, *sorted(format_.name for format_ in FORMATS if format_.write))

# Writes the sentences of a part and returns their number.
Write = Callable[[str, Iterable[Sentence]], int]


@contextmanager
def write_parts(output: Path, name: str, is_folder: bool) -> Iterator[Write]:
    """Write the parts of a corpus within the block; if an error is raised there, nothing is left.

    Args:
        output: The file or folder.
        name: The name of the format.
        is_folder: Whether `output` is a folder with a file for each part; the hub's layout always is one.

    Raises:
        KonerError: If there is no such format, or if it is only read.
    """
    format_ = TOKEN_PARQUET if name == HUB else find_format(name)
    write = format_.write
    if write is None:
        raise KonerError(f"the format '{name}' is only read; formats to write are {', '.join(WRITABLE)}")
    if not is_folder and name != HUB:
        with atomic_directory(output.with_name(f".{output.name}.koner")) as draft:
            file = draft / output.name
            yield lambda _, sentences: _write_counted(write, file, sentences)
            # A format may write a second file beside the first.
            for path in draft.iterdir():
                path.replace(output.with_name(path.name))
        output.with_name(f".{output.name}.koner").rmdir()
        return
    with atomic_directory(output) as folder:
        parts: list[str] = []

        def write_part(part: str, sentences: Iterable[Sentence]) -> int:
            parts.append(part)
            return _write_counted(write, folder / f"{part}{format_.extension}", sentences)

        yield write_part
        if name == HUB:
            files = "".join(f"  - {{split: {part}, path: {part}{format_.extension}}}\n" for part in parts)
            write_text(folder / "README.md", f"---\nconfigs:\n- config_name: ner\n  data_files:\n{files}---\n")


def _write_counted(write: Callable[[Path, Iterable[Sentence]], None], path: Path, sentences: Iterable[Sentence]) -> int:
    numbers = count()
    write(path, (sentence for sentence in sentences if next(numbers) >= 0))
    return next(numbers)
