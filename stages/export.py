"""Turns the trained model into the form that is served, and makes its scores honest."""

from pathlib import Path

from koner.alignment import read_retagged
from koner.errors import told_plainly
from koner.export import export

TRAINED, EXPORTED, DEVELOPMENT = Path("models/trained"), Path("models/exported"), Path("data/split/development.parquet")


def main() -> None:
    temperature = export(TRAINED, list(read_retagged(DEVELOPMENT)), EXPORTED)
    print(f"export: scores at temperature {temperature}", flush=True)


if __name__ == "__main__":
    with told_plainly():
        main()
