import re
import sys

import pytest

from benchmarks import selection
from tests.inference.trained_model import LINES

NAMES = ["김영희", "박철수", "이민호", "최지우"]


@pytest.fixture
def source(tmp_path):
    """A corpus of 16 different training sentences."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [re.sub("홍길동|김철수|정부", name, line) + f" {name}" for name in NAMES for line in LINES]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(LINES), encoding="utf-8")
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["selection.py", *map(str, arguments)])
    selection.main()


def test_a_simulation_is_computed_once_and_drawn(source, tmp_path, monkeypatch, capsys):
    sizes = ["--start", 4, "--step", 4, "--rounds", 2, "--seeds", 1, "--epochs", 1, "--target", 8]
    options = ["--source", source, "--base-model", "scratch", *sizes, "--folder", tmp_path / "points"]
    run(monkeypatch, *options)
    lines = capsys.readouterr().out.splitlines()
    rows = {tuple(line.split()[1:4:2]): line.split()[5] for line in lines if line.startswith("| ")}
    assert {(name, str(n)) for name in selection.STRATEGIES for n in (4, 8, 12)} <= set(rows)
    assert len({rows[name, "4"] for name in selection.STRATEGIES}) == 1
    assert any(line.startswith("random reaches it with ") for line in lines)
    names = {path.stem for path in (tmp_path / "points").glob("*.json")}
    assert names == {"start-1-0", *(f"{name}-1-{n}" for name in selection.STRATEGIES for n in (1, 2))}
    monkeypatch.delattr(selection, "train")
    run(monkeypatch, *options, "--plot", tmp_path / "curves.png")
    again = capsys.readouterr().out.splitlines()
    assert [line for line in again if line.startswith("|")] == [line for line in lines if line.startswith("|")]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
