"""Evaluate the current model on sentences of another source than the one that it was trained on.

    python -m benchmarks.elsewhere --source FOLDER

Tags the validation part, or the last sentences of another part, of any source (a hub id, a folder in the hub's layout,
KLUE's TSV files) with the model that `dvc repro` exported. Prints the figures of the three protocols with their
confidence intervals, span scores by entity type, and the calibration error.

    python -m benchmarks.elsewhere --source FOLDER --model SEED1 SEED2 --others SEED1 SEED2

With several models, each is evaluated. With --others, the same number of models is evaluated for comparison, in pairs
such as those of the same seed: prints span F1 by model, the mean difference, and the two tests of `benchmarks.levers`.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.levers import COMPARISON, make_row
from benchmarks.reporting import format_table, make_parser
from koner.corpus.parts import PUBLISHED_PARTS, VALIDATION
from koner.corpus.sentences import Sentence
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError, exit_on_error
from koner.evaluation.bootstrap import Counts
from koner.evaluation.evaluate import evaluate
from koner.evaluation.span import span_counts
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from koner.tokens.alignment import align


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--source", required=True, help="as the parameter `source`")
    parser.add_argument("--config", default="ner", help="configuration of a source in the hub's layout")
    parser.add_argument("--revision", help="revision of a source on the hub")
    parser.add_argument(
        "--model", nargs="+", default=[Path("models/exported")], type=Path, help="folders of models (models/exported)"
    )
    parser.add_argument("--others", nargs="+", default=[], type=Path, help="folders of models to compare with")
    parser.add_argument("--part", default=VALIDATION, choices=PUBLISHED_PARTS, help="default: %(default)s")
    parser.add_argument("--last", type=int, default=0, help="only so many sentences from the end of the part; 0: all")
    arguments = parser.parse_args()
    if len(arguments.others) not in (0, len(arguments.model)):
        parser.error("--others takes as many folders as --model")
    parts = read_checked(read_source(arguments.source, arguments.config, arguments.revision))
    if arguments.part not in parts:
        raise KonerError(f"{arguments.source} has no part '{arguments.part}'; it has {', '.join(parts)}")
    sentences = parts[arguments.part][-arguments.last :]
    others = [evaluate_model(folder, sentences) for folder in arguments.others]
    models = [evaluate_model(folder, sentences) for folder in arguments.model]
    if others:
        print(format_table(COMPARISON, [make_row("others", others, others), make_row("models", models, others)]))


def evaluate_model(folder: Path, sentences: Sequence[Sentence]) -> Counts:
    """Print the figures of a model, and return its span counts (sentences, types, 3)."""
    tagger = Tagger.load(folder)
    predictions = predict(tagger, align(sentences, tagger.tokenizer, tagger.max_length, tagger.stride, KLUE))
    figures = evaluate(predictions, KLUE, tagger.settings.temperature, seed=0)
    print(f"{folder}: {figures['sentences']} sentences, {figures['entities']} entities")
    for name, interval in figures["intervals"].items():
        protocol, figure = name.split(".")
        print(f"{name:<16}{figures[protocol][figure]:.4f}  95% {interval['low']:.4f} to {interval['high']:.4f}")
    for type_, row in figures["span"]["by_type"].items():
        print(f"span {type_:<11}{row['f1']:.4f}  precision {row['precision']:.4f} recall {row['recall']:.4f}")
    error = figures["calibration"]["expected_calibration_error"]
    print(f"calibration error {error['before']:.4f} before, {error['after']:.4f} after\n")
    return span_counts(predictions, KLUE)


if __name__ == "__main__":
    with exit_on_error():
        main()
