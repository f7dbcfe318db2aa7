"""Measure how soon the service answers, against the usual way to serve a model.

    python -m benchmarks.startup [--repeats 5]

Starts `python -m app` and the usual way (gunicorn over transformers' pipeline) in turn, with the model that dvc.lock
pins. Prints the seconds from the start of the process to the first answer: the median of the repeats, minimum, maximum.
"""

from statistics import median

from benchmarks.processes import ROOT, Service, request_body, usual_command
from benchmarks.reporting import make_parser
from koner.errors import exit_on_error

COMMANDS = {"koner": ["app"], "usual": usual_command(ROOT / "models/ner")}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="starts of each service (default: %(default)s)")
    arguments = parser.parse_args()
    body = request_body("홍길동은 서울에 산다.")
    seconds_by_name: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.repeats):
        for name, command in COMMANDS.items():
            with Service(command, ROOT) as service:
                seconds_by_name[name].append(service.wait_for_answer(body))
    for name, seconds in seconds_by_name.items():
        print(f"{name}: first answer after {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    with exit_on_error():
        main()
