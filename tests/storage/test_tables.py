import pytest

from koner.errors import KonerError
from koner.storage.tables import read_table, write_table


def test_numbers_are_written_and_read(tmp_path):
    rows = [{"epoch": 1, "f1": 0.5}, {"epoch": 2, "f1": 0.75}]
    write_table(tmp_path / "plots" / "epochs.csv", rows)
    assert read_table(tmp_path / "plots" / "epochs.csv") == rows


def test_a_table_without_rows_has_its_header(tmp_path):
    write_table(tmp_path / "empty.csv", [], ["epoch", "f1"])
    assert (tmp_path / "empty.csv").read_text(encoding="utf-8") == "epoch,f1\n"


def test_a_missing_table_is_reported_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(KonerError, match=r"epochs\.csv is missing; run `dvc repro`"):
        read_table(tmp_path / "epochs.csv")
