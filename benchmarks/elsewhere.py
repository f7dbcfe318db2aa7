"""The current model on sentences it was not made for: python -m benchmarks.elsewhere --source FOLDER

Tags the validation part of any source (a hub id, a folder in the hub's layout, KLUE's TSV files) with the model that
`dvc repro` exported, and prints the three protocols' figures with their intervals, and spans by type.
"""

import argparse
from pathlib import Path

from koner.alignment import retag
from koner.errors import told_plainly
from koner.evaluation import evaluate
from koner.predictions import predict
from koner.sources import VALIDATION, read_checked, read_source
from koner.tagger import Tagger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--config", default="ner")
    parser.add_argument("--revision")
    parser.add_argument("--model", default="models/exported", type=Path)
    arguments = parser.parse_args()
    tagger = Tagger.load(arguments.model)
    sentences = read_checked(read_source(arguments.source, arguments.config, arguments.revision))[VALIDATION]
    retagged = retag(sentences, tagger.tokenizer, tagger.max_length, tagger.stride)
    figures = evaluate(predict(tagger, retagged), tagger.settings.temperature, seed=0)
    print(f"{figures['sentences']} sentences, {figures['entities']} entities")
    for name, interval in figures["intervals"].items():
        protocol, figure = name.split(".")
        print(f"{name:<16}{figures[protocol][figure]:.4f}  95 % {interval['low']:.4f} to {interval['high']:.4f}")
    for type_, row in figures["span"]["by_type"].items():
        print(f"span {type_:<11}{row['f1']:.4f}  precision {row['precision']:.4f} recall {row['recall']:.4f}")
    error = figures["calibration"]["expected_calibration_error"]
    print(f"calibration error {error['before']:.4f} before, {error['after']:.4f} after")


if __name__ == "__main__":
    with told_plainly():
        main()
