"""How soon the service answers: python -m benchmarks.startup

Starts `python -m app` and the usual way (gunicorn over transformers' pipeline) on the model that dvc.lock pins, in
turn, and prints the seconds from the start of the process to the first answer, medians over the repeats.
"""

import argparse
import statistics
from pathlib import Path

from benchmarks.processes import Service, body_of
from koner.errors import told_plainly

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/ner"
WAYS = {
    "koner": ["app"],
    "usual": [
        *("gunicorn", "--bind=127.0.0.1:{port}", "--worker-class=gthread", "--threads=4"),
        f"benchmarks.usual_service:create_app({str(MODEL)!r})",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.repeats):
        for way, command in WAYS.items():
            with Service(command, ROOT) as service:
                seconds[way].append(service.first_answer(body_of("홍길동은 서울에 산다.")))
    for way, found in seconds.items():
        print(f"{way}: first answer after {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    with told_plainly():
        main()
