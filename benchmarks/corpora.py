"""Run the whole pipeline on several corpora or label maps, and print their figures side by side.

    python -m benchmarks.corpora 'all source=FOLDER' 'six source=FOLDER label_map={"PS_*":PS,"*":null}' ...

A variant is a name and the parameters in which it differs from the sample recipe; a path in `source` is relative to the
current folder. Each variant is run by `dvc repro` in one temporary clone of the last commit. Prints the figures of the
test part with their 95% intervals, and the minutes of the run. Figures compare only if the test parts have the same
sentences and labels.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.processes import run_command
from benchmarks.reporting import describe_machine, format_table, make_parser, read_settings
from koner.errors import exit_on_error
from koner.params import PARAMS_FILE
from koner.resources import RECIPES
from koner.storage.paths import local_path
from koner.validation import read_yaml


def read_variant(variant: str) -> dict[str, Any]:
    """Return the parameters of a variant: those of the sample recipe, then its own."""
    values = {**read_yaml(RECIPES / "sample.yaml"), **read_settings(variant)}
    path = local_path(values["source"])
    if os.path.exists(path):
        values["source"] = values["watch"] = str(path.resolve())
    return values


def run_pipeline(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Run the pipeline in a clone with some parameters, and return `metrics/evaluate.json`.

    Raises:
        KonerError: If a stage fails.
    """
    params = {**read_yaml(folder / PARAMS_FILE), **values}
    with (folder / PARAMS_FILE).open("w", encoding="utf-8") as file:
        YAML().dump(params, file)
    run_command(["dvc", "repro"], folder)
    figures: dict[str, Any] = json.loads((folder / "metrics/evaluate.json").read_text(encoding="utf-8"))
    return figures


def make_row(variant: str, figures: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    interval = figures["intervals"]["span.f1"]
    return [
        variant.split()[0],
        str(len(figures["span"]["by_type"])),
        str(figures["sentences"]),
        str(figures["entities"]),
        f"{figures['span']['f1']:.4f}",
        f"{interval['low']:.4f} to {interval['high']:.4f}",
        f"{figures['span']['macro_f1']:.4f}",
        f"{figures['klue']['char_f1']:.4f}",
    ]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="a name and parameters: 'NAME KEY=VALUE ...'")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "koner"
        run_command(["git", "clone", "--quiet", ".", str(folder)], Path())
        for variant in arguments.variants:
            start = time.perf_counter()
            figures = run_pipeline(folder, read_variant(variant))
            minutes = (time.perf_counter() - start) / 60
            rows.append([*make_row(variant, figures), f"{minutes:.1f}"])
            print(f"{rows[-1][0]}: span.f1 {rows[-1][4]}, {rows[-1][5]}; {minutes:.1f} minutes", flush=True)
    head = ["variant", "types", "sentences", "entities", "span.f1", "95% interval", "span.macro_f1", "klue.char_f1"]
    head += ["minutes"]
    print(f"\n{format_table(head, rows)}")


if __name__ == "__main__":
    with exit_on_error():
        main()
