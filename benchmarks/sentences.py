"""The sentences that the benchmarks use."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from koner.corpus.parts import TRAIN, VALIDATION
from koner.corpus.sentences import Sentence
from koner.corpus.sources import read_checked, read_source
from koner.params import SAMPLE


@dataclass(frozen=True)
class BenchmarkSentences:
    """Sentences of the validation part in a random order, always the same, and those of the training part."""

    validation: list[Sentence]
    train: list[Sentence]

    @property
    def texts(self) -> list[str]:
        """The texts of the validation sentences."""
        return [sentence.text for sentence in self.validation]


def add_options(parser: argparse.ArgumentParser, sentences: int) -> None:
    """Add the options that select the sentences; `sentences` is the default number."""
    parser.add_argument("--source", default=SAMPLE, help="as the parameter `source`: sample, or a folder")
    parser.add_argument("--source-config", default="ner", help="configuration of a source in the hub's layout")
    parser.add_argument(
        "--sentences", type=int, default=sentences, help="number of validation sentences (default: %(default)s)"
    )


def read_sentences(arguments: argparse.Namespace) -> BenchmarkSentences:
    """Read the sentences that the options select; all validation sentences if there are fewer than requested."""
    parts = read_checked(read_source(arguments.source, arguments.source_config, None))
    order = np.random.default_rng(0).permutation(len(parts[VALIDATION]))[: arguments.sentences]
    return BenchmarkSentences([parts[VALIDATION][i] for i in order], parts[TRAIN])
