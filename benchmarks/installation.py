"""Measure the size of an installation with pip, by extra, and how soon it imports the tagger.

    python -m benchmarks.installation [--extras none train] [--repeats 5]

Builds the wheel, installs it with each of the extras into a new environment at the versions of requirements.lock, and
prints the size of the packages on disk, their number, and the seconds that Python needs to start and import
`koner.Tagger`: the median of the repeats.
"""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

from benchmarks.processes import ROOT
from benchmarks.reporting import MIB, describe_machine, format_table, make_parser
from koner.errors import exit_on_error


def install(wheel: Path, extra: str, folder: Path) -> Path:
    """Install a wheel with an extra, or with "none", into a new environment, and return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    requirement = str(wheel) if extra == "none" else f"{wheel}[{extra}]"
    constraints = ["--constraint", str(ROOT / "requirements.lock")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, requirement], check=True)  # noqa: S603
    return python


def size_on_disk(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def import_seconds(python: Path, folder: Path) -> float:
    """Return the seconds from the start of Python until the tagger is imported."""
    start = time.perf_counter()
    subprocess.run([python, "-c", "from koner import Tagger"], check=True, cwd=folder)  # noqa: S603
    return time.perf_counter() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--extras", nargs="+", default=["none", "bulk", "train"], help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="imports of each (default: %(default)s)")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(build, check=True, cwd=ROOT, capture_output=True)  # noqa: S603
        (wheel,) = folder.glob("*.whl")
        for extra in arguments.extras:
            python = install(wheel, extra, folder / extra)
            (packages,) = (folder / extra / "lib").glob("python*/site-packages")
            count = len(list(packages.glob("*.dist-info")))
            seconds = median(import_seconds(python, folder) for _ in range(arguments.repeats))
            rows.append([extra, f"{size_on_disk(packages) / MIB:,.0f}", count, f"{seconds:.2f}"])
        print(f"{describe_machine()}; the wheel itself: {wheel.stat().st_size / MIB:.1f} MiB")
    print(format_table(["extra", "MiB", "packages", "import, s"], rows))


if __name__ == "__main__":
    with exit_on_error():
        main()
