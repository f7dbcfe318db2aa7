"""The versions of the packages that figures depend on.

`stages/versions.yaml` holds them, written from `requirements.lock` by `python -m koner.versions`, and each stage of
`dvc.yaml` tracks those that it uses as parameters. So a new version in the lock file makes DVC run the stage again, and
`dvc params diff` shows it beside the figures. If other versions are installed than those, a stage logs a warning and
writes them into its metrics.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from koner.errors import KonerError, exit_on_error
from koner.validation import read_yaml

VERSIONS_FILE = Path("stages/versions.yaml")
LOCK_FILE = Path("requirements.lock")
PIPELINE_FILE = Path("dvc.yaml")
# The packages that compute the answers of the service.
SERVING_PACKAGES = ("numpy", "onnxruntime", "tokenizers")

_logger = logging.getLogger(__name__)


def version_metrics(stage: str, versions_file: Path = VERSIONS_FILE) -> dict[str, dict[str, str]]:
    """Compare the installed packages of a stage with the pinned versions, and warn if they differ.

    Args:
        stage: The name of a stage of `dvc.yaml` in the current folder.
        versions_file: The file of pinned versions, by the path that `dvc.yaml` gives.

    Returns:
        An entry for the stage's metrics: the installed version of each package that differs, under `other_versions`.
        Empty if all versions are the pinned ones.

    Raises:
        KonerError: If a file of the project is missing or is not valid.
    """
    pinned = tracked_versions(stage, versions_file)
    others = _other_versions(pinned)
    if not others:
        return {}
    listing = ", ".join(f"{package} {version} (pinned: {pinned[package]})" for package, version in others.items())
    _logger.warning(
        "%s: other package versions are installed than %s pins, so the figures may differ: %s",
        stage,
        versions_file,
        listing,
    )
    return {"other_versions": others}


def describe_other_versions(dvc_lock: Path) -> str | None:
    """Compare the installed packages of the service with those that the figures were measured with.

    Args:
        dvc_lock: DVC's lock file, which holds the versions that the stage evaluate ran with.

    Returns:
        A list of the packages that differ, with both versions; None if there are none or the file has no versions.
    """
    try:
        params = read_yaml(dvc_lock)["stages"]["evaluate"]["params"]
        pinned = {package: str(params[VERSIONS_FILE.as_posix()][package]) for package in SERVING_PACKAGES}
    except (KonerError, OSError, KeyError, TypeError):
        return None
    others = _other_versions(pinned)
    return ", ".join(f"{name} {version} (measured: {pinned[name]})" for name, version in others.items()) or None


def tracked_versions(stage: str, versions_file: Path = VERSIONS_FILE) -> dict[str, str]:
    """Return the pinned version of each package that a stage of `dvc.yaml` tracks as a parameter.

    Raises:
        KonerError: If `dvc.yaml` has no such stage, or tracks a package that the versions file does not name.
    """
    stages = read_yaml(PIPELINE_FILE)["stages"]
    if stage not in stages:
        raise KonerError(f"{PIPELINE_FILE} has no stage '{stage}'; it has {', '.join(stages)}")
    entries = [entry for entry in stages[stage].get("params", []) if isinstance(entry, dict)]
    packages = [name for entry in entries for name in entry.get(versions_file.as_posix()) or []]
    versions = read_yaml(versions_file)
    unknown = set(packages) - set(versions)
    if unknown:
        raise KonerError(f"{PIPELINE_FILE}: the stage '{stage}' tracks {min(unknown)}, which is not in {versions_file}")
    return {package: str(versions[package]) for package in packages}


def locked_versions(lock_file: Path) -> dict[str, str]:
    """Return the version of each package of a requirements file, by its name in lower case with hyphens.

    Raises:
        KonerError: If the file does not exist.
    """
    if not lock_file.is_file():
        raise KonerError(f"{lock_file} is missing; run `make lock`")
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", lock_file.read_text(encoding="utf-8"), re.MULTILINE)
    return {_normalized(name): version for name, version in pins}


def update_versions(versions_file: Path = VERSIONS_FILE, lock_file: Path = LOCK_FILE) -> None:
    """Write the locked version of each package that the versions file names; its comments stay.

    Raises:
        KonerError: If the lock file does not pin one of the packages.
    """
    yaml = YAML()
    locked = locked_versions(lock_file)
    versions: dict[str, Any] = yaml.load(versions_file.read_text(encoding="utf-8"))
    for package in versions:
        if _normalized(package) not in locked:
            raise KonerError(f"{lock_file} does not pin {package}, which {versions_file} names")
        versions[package] = locked[_normalized(package)]
    with versions_file.open("w", encoding="utf-8") as file:
        yaml.dump(versions, file)


def _other_versions(pinned: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each package of which another version is installed than the pinned one."""
    installed = {package: _installed_version(package) for package in pinned}
    return {package: version for package, version in installed.items() if version != pinned[package]}


def _installed_version(package: str) -> str:
    try:
        # A build of the same release for other hardware has a local label, such as 2.13.0+cpu.
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    with exit_on_error():
        update_versions(*map(Path, sys.argv[1:]))
