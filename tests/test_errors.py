"""Faults of the machine, by the errors that each library really raises."""

import errno
import os
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from koner.errors import KonerError, exit_on_error
from koner.storage.outputs import atomic_directory, write_metrics
from koner.storage.parquet import write_rows
from koner.storage.tables import write_table

TENSORS = {"weights": torch.zeros(100_000)}
RANDOM = np.random.default_rng(0).bytes(200_000).hex()


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    # PyTorch's file stays open as long as its error, so the disk is removed when it is closed.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def copy_large_folder(folder):
    (folder.parent / "large").mkdir()
    (folder.parent / "large/file").write_text(RANDOM)
    with atomic_directory(folder / "copy") as draft:
        shutil.copytree(folder.parent / "large", draft, dirs_exist_ok=True)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda folder: write_metrics(folder / "a.json", {"text": RANDOM}), id="metrics"),
        pytest.param(lambda folder: write_table(folder / "a.csv", [{"text": RANDOM}]), id="table"),
        pytest.param(
            lambda folder: write_rows(folder / "a.parquet", [{"text": RANDOM}], pa.schema({"text": pa.string()})),
            id="Parquet",
        ),
        pytest.param(lambda folder: save_file(TENSORS, folder / "a.safetensors"), id="safetensors"),
        pytest.param(lambda folder: torch.save(TENSORS, folder / "a.pt"), id="torch"),
        pytest.param(copy_large_folder, id="copy"),
    ],
)
def test_a_full_disk_is_told_in_a_sentence(full_disk, write):
    with pytest.raises(SystemExit) as exit_, exit_on_error():
        write(full_disk)
    assert str(exit_.value).startswith("koner: ")
    assert str(exit_.value).endswith("the disk is full; free some space, and run the command again")
    # Our own writers leave nothing; a checkpoint that is cut off is removed when the run resumes.
    assert os.listdir(full_disk) in ([], ["a.safetensors"], ["a.pt"])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EMFILE])
def test_a_file_without_rights_is_named(number):
    with pytest.raises(SystemExit, match=f"^koner: data/x: {os.strerror(number)}$"), exit_on_error():
        raise OSError(number, os.strerror(number), "data/x")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x", "y")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error)), exit_on_error():
        raise error


def test_a_sentence_of_ours_about_a_full_disk_is_kept():
    error = KonerError("params.yaml can't be written")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    with pytest.raises(SystemExit, match=r"^koner: params.yaml can't be written$"), exit_on_error():
        raise error


def test_an_error_cannot_control_the_terminal():
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise KonerError("the column 'a\r\x1b[2J\u202e' of 자료.parquet")
    assert str(end.value) == "koner: the column 'a\\r\\x1b[2J\\u202e' of 자료.parquet"
