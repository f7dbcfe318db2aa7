import logging
from importlib.metadata import version

import pytest

from koner import versions
from koner.errors import KonerError

DVC_YAML = """\
stages:
  train:
    cmd: true
    params:
      - lr
      - stages/versions.yaml:
          - numpy
          - torch
  split:
    cmd: true
"""
LOCK = "# a comment\nnumpy==1.2.3\nscikit-learn==0.9\ntorch==2.0.0\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "requirements.lock").write_text(LOCK)
    (tmp_path / "stages/versions.yaml").write_text("# kept\nnumpy: '0'\nscikit_learn: '0'\ntorch: '0'\n")
    return tmp_path


def pin(project, **changes):
    installed = {name: version(name).partition("+")[0] for name in ("numpy", "torch")} | changes
    text = "".join(f"{name}: '{value}'\n" for name, value in installed.items())
    (project / "stages/versions.yaml").write_text(text)


def test_pinned_versions_are_no_metric(project, caplog):
    pin(project)
    assert versions.version_metrics("train") == {}
    assert not caplog.records


def test_another_version_is_a_metric_and_a_warning(project, caplog):
    pin(project, torch="1.13.1")
    with caplog.at_level(logging.WARNING):
        found = versions.version_metrics("train")
    assert found == {"other_versions": {"torch": version("torch").partition("+")[0]}}
    assert "train: other package versions are installed" in caplog.text
    assert "(pinned: 1.13.1)" in caplog.text


def test_a_package_that_is_not_installed_is_reported(project):
    (project / "dvc.yaml").write_text(DVC_YAML.replace("numpy", "no-such-package"))
    pin(project, **{"no-such-package": "1"})
    assert versions.version_metrics("train")["other_versions"] == {"no-such-package": "not installed"}


def test_a_stage_may_track_no_version(project):
    assert versions.version_metrics("split") == {}


def test_an_unknown_stage_is_an_error(project):
    with pytest.raises(KonerError, match=r"^dvc\.yaml has no stage 'trian'; it has train, split$"):
        versions.version_metrics("trian")


def test_a_tracked_package_must_be_pinned(project):
    (project / "stages/versions.yaml").write_text("numpy: '1'\n")
    with pytest.raises(KonerError, match=r"tracks torch, which is not in stages/versions\.yaml"):
        versions.version_metrics("train")


def test_the_versions_come_from_the_lock_file(project):
    versions.update_versions()
    text = (project / "stages/versions.yaml").read_text()
    assert text.startswith("# kept\n")
    read = versions.read_yaml(project / "stages/versions.yaml")
    assert read == {"numpy": "1.2.3", "scikit_learn": "0.9", "torch": "2.0.0"}


def test_a_package_that_is_not_locked_is_an_error(project):
    (project / "requirements.lock").write_text("numpy==1.2.3\n")
    with pytest.raises(KonerError, match=r"^requirements\.lock does not pin scikit_learn"):
        versions.update_versions()


def test_the_lock_file_must_be_there(project):
    (project / "requirements.lock").unlink()
    with pytest.raises(KonerError, match="`make lock`"):
        versions.update_versions()


def test_the_committed_versions_are_the_locked_ones(root):
    locked = {name: str(value) for name, value in versions.locked_versions(root / "requirements.lock").items()}
    pinned = versions.read_yaml(root / "stages/versions.yaml")
    assert {name.lower().replace("_", "-"): str(value) for name, value in pinned.items()}.items() <= locked.items()


def write_dvc_lock(path, **versions):
    lines = "".join(f"        {name}: '{value}'\n" for name, value in versions.items())
    path.write_text(f"stages:\n  evaluate:\n    params:\n      stages/versions.yaml:\n{lines}")
    return path


def test_the_service_compares_with_the_versions_of_the_evaluation(tmp_path):
    installed = {name: version(name) for name in versions.SERVING_PACKAGES}
    assert versions.describe_other_versions(write_dvc_lock(tmp_path / "dvc.lock", **installed)) is None
    others = versions.describe_other_versions(write_dvc_lock(tmp_path / "dvc.lock", **installed | {"numpy": "1.0"}))
    assert others == f"numpy {version('numpy')} (measured: 1.0)"


@pytest.mark.parametrize(
    "text", ["", "stages:\n", "stages:\n  evaluate: {}\n", "[", "stages:\n  evaluate:\n    params: 1\n"]
)
def test_a_lock_file_without_versions_is_no_difference(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    assert versions.describe_other_versions(tmp_path / "dvc.lock") is None
    assert versions.describe_other_versions(tmp_path / "missing") is None


def test_the_committed_lock_file_has_the_versions_of_the_service(root):
    params = versions.read_yaml(root / "dvc.lock")["stages"]["evaluate"]["params"]
    assert set(versions.SERVING_PACKAGES) <= params["stages/versions.yaml"].keys()
