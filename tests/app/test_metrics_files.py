import resource
from contextlib import contextmanager

import pytest
from prometheus_client.mmap_dict import MmapedDict

from app.metrics_files import ReservedFile

KIB = 1024


@contextmanager
def limited_file_size(size):
    """Let every write beyond a size fail, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(autouse=True)
def _no_earlier_warning(monkeypatch):
    monkeypatch.setattr(ReservedFile, "_warned_process", 0)


def write_values(file, count):
    for i in range(count):
        file.write_value(f"key {i}", float(i), 0.0)


def read_values(path):
    return [(key, value) for key, value, *_ in MmapedDict.read_all_values_from_file(path)]


def expected_values(count):
    return [(f"key {i}", float(i)) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_the_space_of_a_file_is_reserved_and_other_processes_read_it(tmp_path, count):
    path = tmp_path / "counter_1.db"
    file = ReservedFile(str(path))
    write_values(file, count)
    assert path.stat().st_blocks * 512 >= path.stat().st_size >= 64 * KIB
    assert read_values(path) == expected_values(count)
    file.close()
    # A later process with the same id continues the file.
    assert [entry[:2] for entry in ReservedFile(str(path)).read_all_values()] == expected_values(count)


def test_without_space_for_a_file_its_values_stay_in_memory(tmp_path, caplog):
    with limited_file_size(KIB):
        for name in ("counter_1.db", "histogram_1.db"):
            file = ReservedFile(str(tmp_path / name))
            write_values(file, 10_000)
            assert [entry[:2] for entry in file.read_all_values()] == expected_values(10_000)
            assert file.read_value("key 7") == (7, 0)
            file.close()
    # The collector would fail on an empty file.
    assert list(tmp_path.iterdir()) == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("koner: this worker stops reporting metrics: ")


def test_without_space_to_grow_a_file_keeps_its_values(tmp_path, caplog):
    path = tmp_path / "counter_1.db"
    with limited_file_size(100 * KIB):
        file = ReservedFile(str(path))
        write_values(file, 10_000)
        assert [entry[:2] for entry in file.read_all_values()] == expected_values(10_000)
    stored = read_values(path)
    assert 1_000 < len(stored) < 10_000
    assert stored == expected_values(len(stored))
    assert path.stat().st_size == 64 * KIB
    assert len(caplog.messages) == 1
