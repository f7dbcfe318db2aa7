"""A corpus cut into numbered blocks of rows, each of which becomes one file of the output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

_PLAN_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        (
            "pieces",
            pa.list_(
                pa.struct(
                    [("address", pa.string()), ("first", pa.int64()), ("rows", pa.int64()), ("offset", pa.int64())]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a file: the first, counted from 0, how many, and for lines the byte that they begin at."""

    address: str
    first: int
    rows: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a corpus: its number from 0, and the pieces that it is made of, in order."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """How many rows it has, the malformed among them."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def name(self) -> str:
        """The name of the file that it becomes."""
        return f"part-{self.number:05d}.parquet"

    def to_json(self) -> str:
        """Writes it for another process."""
        return json.dumps([self.number, [asdict(piece) for piece in self.pieces]])

    @classmethod
    def from_json(cls, written: str) -> Block:
        """Reads what `to_json` wrote."""
        number, pieces = json.loads(written)
        return cls(number, tuple(Piece(**piece) for piece in pieces))


@dataclass(frozen=True, slots=True)
class Counted:
    """A file with its rows counted, and the bytes at which it can be cut; without those it can't be.

    `cuts` maps the number of a row to the byte that it begins at; `None` where rows need none to be found (Parquet).
    """

    address: str
    rows: int
    cuts: dict[int, int] | None = None
    whole: bool = False


def cut(files: Iterable[Counted], block_rows: int) -> Iterator[Block]:
    """Cuts files into blocks of `block_rows` rows, the last of fewer; a block may hold rows of several files.

    A file that can't be cut stands whole in one block, which has more rows for it.
    """
    pieces: list[Piece] = []
    number, room = 0, block_rows
    for file in files:
        first = 0
        while first < file.rows:
            rows = file.rows - first if file.whole else min(room, file.rows - first)
            pieces.append(Piece(file.address, first, rows, file.cuts[first] if file.cuts and first else 0))
            first += rows
            room -= rows
            if room <= 0:
                yield Block(number, tuple(pieces))
                pieces = []
                number, room = number + 1, block_rows
    if pieces:
        yield Block(number, tuple(pieces))


def write_blocks(file: IO[bytes], blocks: Sequence[Block]) -> None:
    """Writes blocks as Parquet."""
    rows = [{"number": block.number, "pieces": [asdict(piece) for piece in block.pieces]} for block in blocks]
    pq.write_table(pa.Table.from_pylist(rows, _PLAN_SCHEMA), file, compression="zstd")


def read_blocks(file: IO[bytes]) -> list[Block]:
    """Reads what `write_blocks` wrote."""
    rows = pq.read_table(file).to_pylist()
    return [Block(row["number"], tuple(Piece(**piece) for piece in row["pieces"])) for row in rows]
