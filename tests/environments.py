"""Virtual environments with the packages that an installation of koner would have, without downloading them again."""

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution, distributions, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def build_wheel(root, folder):
    """Build the wheel of the working tree in `folder`, and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def required_distributions(wheel, extra):
    """Return the installed distributions that a wheel with an extra needs, also indirectly, by their names."""
    (built,) = distributions(path=[str(wheel)])
    found = {}
    pending = [(built.name, frozenset({extra}))]
    seen = set()
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        # What is installed of koner itself may be older than the wheel.
        current = built if name == built.name else found.setdefault(canonicalize_name(name), distribution(name))
        for requirement in map(Requirement, current.requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                pending.append((requirement.name, frozenset(requirement.extras)))
    return found


def make_environment(wheel, folder, extra):
    """Create the environment that `pip install 'koner[EXTRA]'` creates from a wheel at the pinned versions.

    The files of the packages are links to those of this environment.

    Args:
        wheel: The path of the wheel.
        folder: The folder of the new environment.
        extra: The name of the extra.

    Returns:
        The folder of its programs.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    required = required_distributions(wheel, extra)
    _link_packages(required, packages)
    for installed in required.values():
        _copy_programs(installed, folder / "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder / "bin"


def _link_packages(required, packages):
    """Link the packages of distributions: whole folders, or single files where others have files in a folder, too."""
    owners = {name: set(map(canonicalize_name, names)) for name, names in packages_distributions().items()}
    linked = set()
    for installed in required.values():
        for file in installed.files or ():
            folder = file.parts[0]
            name = Path(folder) if owners.get(folder, set()) <= set(required) else Path(file)
            if folder in ("..", "__pycache__") or name in linked:
                continue
            linked.add(name)
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).symlink_to(installed.locate_file(name))


def _copy_programs(installed, folder):
    """Copy the programs of a distribution, to be run by the Python in `folder`."""
    for file in installed.files or ():
        program = Path(installed.locate_file(file)).resolve()
        if file.parts[0] == ".." and program.parent.name == "bin" and program.is_file():
            first_line, newline, rest = program.read_bytes().partition(b"\n")
            if first_line.startswith(b"#!"):
                first_line = b"#!" + os.fsencode(folder / "python")
            (folder / program.name).write_bytes(first_line + newline + rest)
            (folder / program.name).chmod(0o755)
