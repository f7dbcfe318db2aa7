"""The sentences that the benchmarks ask with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from koner.corpus import Sentence
from koner.sources import SAMPLE, TRAIN, VALIDATION, read_checked, read_source


@dataclass(frozen=True)
class Material:
    """Sentences to ask with (of the validation part, in an order drawn once), and those of the training part."""

    asked: list[Sentence]
    train: list[Sentence]

    @property
    def texts(self) -> list[str]:
        return [sentence.text for sentence in self.asked]


def add_options(parser: argparse.ArgumentParser, sentences: int) -> None:
    """Adds the options that say which sentences to ask with."""
    parser.add_argument("--source", default=SAMPLE, help="sample, or a folder as the parameter `source` takes it")
    parser.add_argument("--source-config", default="ner", help="configuration of a source in the hub's layout")
    parser.add_argument("--sentences", type=int, default=sentences, help="how many, %(default)s")


def read_material(arguments: argparse.Namespace) -> Material:
    """Reads the sentences that the options name; all of them where there are fewer than asked for."""
    parts = read_checked(read_source(arguments.source, arguments.source_config, None))
    drawn = np.random.default_rng(0).permutation(len(parts[VALIDATION]))[: arguments.sentences]
    return Material([parts[VALIDATION][i] for i in drawn], parts[TRAIN])
