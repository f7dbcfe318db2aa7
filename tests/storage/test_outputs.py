import json

import pytest

from koner.storage.outputs import atomic_directory, atomic_file, write_metrics


def test_metrics_are_rounded_to_six_decimals(tmp_path):
    path = tmp_path / "metrics" / "stage.json"
    write_metrics(path, {"f1": 0.12345678, "by_type": {"PS": 1 / 3}, "count": 3, "name": "서울"})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "f1": 0.123457,
        "by_type": {"PS": 0.333333},
        "count": 3,
        "name": "서울",
    }
    assert "서울" in path.read_text(encoding="utf-8")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_file(path) as draft:
        draft.write_text("a")
        assert draft.suffix == ".csv"
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_file(path) as draft:
        draft.write_text("b" * (1 // 0) if draft.write_text("b") else "")
    assert path.read_text() == "a"
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "old").touch()
    with atomic_directory(folder) as draft:
        (draft / "new").touch()
        assert [path.name for path in folder.iterdir()] == ["old"]
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_directory_is_unchanged_after_an_error(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "old").touch()

    def write_incompletely():
        with atomic_directory(folder) as draft:
            (draft / "new").touch()
            raise ValueError("no space")

    with pytest.raises(ValueError, match="no space"):
        write_incompletely()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]
