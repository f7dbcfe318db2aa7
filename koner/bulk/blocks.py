"""Blocks: the parts of a corpus, each of which becomes one file of the output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from koner.bulk.files import CorpusFile

_PIECE_TYPE = pa.struct(
    [
        *((name, pa.string()) for name in ("address", "version", "digest")),
        *((name, pa.int64()) for name in ("first", "rows", "offset")),
    ]
)
_PLAN_SCHEMA = pa.schema([("number", pa.int64()), ("pieces", pa.list_(_PIECE_TYPE))])


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of one file.

    Attributes:
        address: The address of the file.
        version: The version of the file when the run was planned.
        digest: The digest of the content when the run was planned: of the piece's bytes for files of lines, of the
            footer for Parquet.
        first: The number of the first row, from 0.
        rows: The number of rows.
        offset: For files of lines, the byte at which the first row begins.
    """

    address: str
    version: str
    digest: str
    first: int
    rows: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a corpus: its number from 0, and its pieces in order."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """The number of rows, malformed rows included."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def name(self) -> str:
        """The name of the output file."""
        return f"part-{self.number:05d}.parquet"

    def to_json(self) -> str:
        """Serialize the block for another process."""
        return json.dumps([self.number, [asdict(piece) for piece in self.pieces]])

    @classmethod
    def from_json(cls, text: str) -> Block:
        """Parse the output of `to_json`."""
        number, pieces = json.loads(text)
        return cls(number, tuple(Piece(**piece) for piece in pieces))


@dataclass(frozen=True, slots=True)
class CountedFile:
    """An input file whose rows are counted.

    Attributes:
        file: The file.
        rows: The number of rows.
        digest: The digest of every piece of the file that `starts` does not hold.
        starts: For files of lines, by the number of every row at which a piece may begin: its byte offset, and the
            digest of the bytes from there to the next such row.
        is_splittable: Whether the rows may go into several blocks.
    """

    file: CorpusFile
    rows: int
    digest: str = ""
    starts: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    is_splittable: bool = True

    def piece(self, first: int, rows: int) -> Piece:
        """Return the piece of `rows` rows that begins at row `first`."""
        offset, digest = self.starts.get(first, (0, self.digest))
        return Piece(self.file.address, self.file.version, digest, first, rows, offset)


def split_into_blocks(files: Iterable[CountedFile], block_rows: int) -> Iterator[Block]:
    """Divide files into blocks of `block_rows` rows; the last has fewer, and a block may span several files.

    A file that is not splittable goes into one block as a whole, which may then have more rows.
    """
    pieces: list[Piece] = []
    number, room = 0, block_rows
    for file in files:
        first = 0
        while first < file.rows:
            rows = min(room, file.rows - first) if file.is_splittable else file.rows - first
            pieces.append(file.piece(first, rows))
            first += rows
            room -= rows
            if room <= 0:
                yield Block(number, tuple(pieces))
                pieces = []
                number, room = number + 1, block_rows
    if pieces:
        yield Block(number, tuple(pieces))


def write_blocks(file: IO[bytes], blocks: Sequence[Block]) -> None:
    """Write blocks as Parquet."""
    rows = [{"number": block.number, "pieces": [asdict(piece) for piece in block.pieces]} for block in blocks]
    pq.write_table(pa.Table.from_pylist(rows, _PLAN_SCHEMA), file, compression="zstd")


def read_blocks(file: IO[bytes]) -> list[Block]:
    """Read the blocks that `write_blocks` wrote."""
    rows = pq.read_table(file).to_pylist()
    return [Block(row["number"], tuple(Piece(**piece) for piece in row["pieces"])) for row in rows]
