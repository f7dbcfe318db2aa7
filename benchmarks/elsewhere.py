"""Evaluate the current model on sentences of another source than the one that it was trained on.

    python -m benchmarks.elsewhere --source FOLDER

Tags the validation part, or the last sentences of another part, of any source (a hub id, a folder in the hub's layout,
KLUE's TSV files) with the model that `dvc repro` exported. Prints the figures of the three protocols with their
confidence intervals, span scores by entity type, and the calibration error.
"""

from pathlib import Path

from benchmarks.reporting import make_parser
from koner.corpus.parts import PUBLISHED_PARTS, VALIDATION
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError, exit_on_error
from koner.evaluation.evaluate import evaluate
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from koner.tokens.alignment import align


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--source", required=True, help="as the parameter `source`")
    parser.add_argument("--config", default="ner", help="configuration of a source in the hub's layout")
    parser.add_argument("--revision", help="revision of a source on the hub")
    parser.add_argument("--model", default="models/exported", type=Path, help="folder of the model")
    parser.add_argument("--part", default=VALIDATION, choices=PUBLISHED_PARTS, help="default: %(default)s")
    parser.add_argument("--last", type=int, default=0, help="only so many sentences from the end of the part; 0: all")
    arguments = parser.parse_args()
    tagger = Tagger.load(arguments.model)
    parts = read_checked(read_source(arguments.source, arguments.config, arguments.revision))
    if arguments.part not in parts:
        raise KonerError(f"{arguments.source} has no part '{arguments.part}'; it has {', '.join(parts)}")
    sentences = parts[arguments.part][-arguments.last :]
    aligned = align(sentences, tagger.tokenizer, tagger.max_length, tagger.stride, KLUE)
    figures = evaluate(predict(tagger, aligned), KLUE, tagger.settings.temperature, seed=0)
    print(f"{figures['sentences']} sentences, {figures['entities']} entities")
    for name, interval in figures["intervals"].items():
        protocol, figure = name.split(".")
        print(f"{name:<16}{figures[protocol][figure]:.4f}  95% {interval['low']:.4f} to {interval['high']:.4f}")
    for type_, row in figures["span"]["by_type"].items():
        print(f"span {type_:<11}{row['f1']:.4f}  precision {row['precision']:.4f} recall {row['recall']:.4f}")
    error = figures["calibration"]["expected_calibration_error"]
    print(f"calibration error {error['before']:.4f} before, {error['after']:.4f} after")


if __name__ == "__main__":
    with exit_on_error():
        main()
