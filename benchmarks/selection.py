"""Simulate active learning: compare what `koner select` chooses with a random choice and with uncertainty alone.

    python -m benchmarks.selection --source $KLUE/klue-ner/hub [--base-model FOLDER] [--plot FILE]

Starts with --start random sentences of the training part, trains a model on them, lets each strategy choose --step
more by that model, "annotates" them with the annotation that the corpus has, trains again from the base model on all
of them, and so on for --rounds rounds and each seed. Every model is evaluated on the validation part.

    random        sentences at random
    uncertainty   the lowest probability of the predicted tag sequence, normalized for length (MNLP)
    select        `koner.selection.choice.choose`, as `koner select` does

A point (strategy, seed, round) is stored in --folder and not computed again, so the benchmark can be interrupted, and
continued with more rounds or seeds. Prints what the first batch of each strategy holds: tokens, entities, entities that
the model of round 0 finds wrongly or not at all, and, from a pool in which each of 300 sentences occurs nine times with
other names and nouns, how many of the 300 the batch has. Prints span F1 by number of sentences, and for each strategy
the fewest sentences with which it reaches the F1 of a random choice of --target sentences. --plot draws the curves
against sentences and tokens.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from benchmarks.reporting import describe_machine, format_table, make_parser
from koner.corpus.parts import TRAIN, VALIDATION
from koner.corpus.sources import read_checked, read_source
from koner.encoder.base_model import prepare_base_model
from koner.errors import exit_on_error
from koner.inference.decoding import ScoredEntity
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.scores import span_scores
from koner.params import MINI, PARAMS_FILE, Params
from koner.resources import NAMES
from koner.selection.candidates import Candidate, find_candidates
from koner.selection.choice import choose
from koner.storage.outputs import write_metrics
from koner.tokens.alignment import align
from koner.training.augmentation import augment_sentences, read_names
from koner.training.dataset import WindowDataset
from koner.training.fit import train
from koner.validation import read_yaml, validate

RANDOM, UNCERTAINTY, SELECT = "random", "uncertainty", "select"
STRATEGIES = (RANDOM, UNCERTAINTY, SELECT)
# The epoch is chosen by the F1 on these training sentences, which rises to the last one: nothing else is annotated.
_DEVELOPMENT = 32
# The sentences that occur several times in another pool, and how often.
_COPIED, _COPIES = 300, 9

Point = dict[str, Any]


class Simulation:
    """The corpus, the base model and the folder of the points."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        parts = read_checked(read_source(arguments.source, arguments.source_config, None))
        self.pool, self.test = parts[TRAIN], parts[VALIDATION]
        self.arguments = arguments
        self.folder: Path = arguments.folder

    def params(self, seed: int) -> Params:
        """Return the parameters of the sample recipe without augmented copies, and with those of the options."""
        options = self.arguments
        changes = {
            "source": options.source,
            "base_model": options.base_model,
            "seed": seed,
            "epochs": options.epochs,
            "augment": 0,
            "patience": 0,
            # It reads the annotation of the training sentences, which a model of the first rounds has not seen.
            "drop_crossing": False,
        }
        return validate({**read_yaml(PARAMS_FILE), **changes}, PARAMS_FILE, Params)

    @cached_property
    def base(self) -> Path:
        """The folder of the base model."""
        folder = self.folder / "base"
        if not folder.is_dir():
            prepare_base_model(self.params(0), self.pool, folder, labels=KLUE)
        return folder

    @cached_property
    def aligned(self) -> list[Any]:
        """The sentences of the pool, aligned to the tokens of the base model."""
        params = self.params(0)
        tokenizer = AutoTokenizer.from_pretrained(self.base, local_files_only=True)
        return align(self.pool, tokenizer, params.max_length, params.stride, KLUE)

    def point(self, strategy: str, seed: int, number: int) -> Point:
        """Return a point, which is computed unless it is stored; the strategies share round 0.

        Returns:
            The numbers of annotated sentences, tokens and entities, span F1, the sentences that are annotated, and for
            each strategy, or only the one of the point, the batch that it adds in the next round.
        """
        path = self.folder / f"{strategy if number else 'start'}-{seed}-{number}.json"
        if path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8")))
        chosen = self._annotated(strategy, seed, number)
        start = time.process_time()
        tagger = self._train(chosen, seed)
        f1 = self._evaluate(tagger)
        strategies = [name for name in STRATEGIES if not number or name == strategy != RANDOM]
        point = {
            **self._count(chosen),
            "f1": f1,
            "chosen": chosen,
            "next": self._choose(strategies, tagger, seed, chosen) if strategies else {},
            "cpu_seconds": time.process_time() - start,
        }
        write_metrics(path, point)
        print(f"seed {seed}, {strategy}, {len(chosen)} sentences, {point['tokens']} tokens: {f1:.4f}", flush=True)
        return point

    def _annotated(self, strategy: str, seed: int, number: int) -> list[int]:
        if strategy == RANDOM or not number:
            return self._random_order(seed)[: self.arguments.start + number * self.arguments.step]
        previous = self.point(strategy, seed, number - 1)
        return [*previous["chosen"], *previous["next"][strategy]["chosen"]]

    def _random_order(self, seed: int) -> list[int]:
        return np.random.default_rng(seed).permutation(len(self.pool)).tolist()

    def _count(self, chosen: Sequence[int]) -> dict[str, int]:
        return {
            "sentences": len(chosen),
            "tokens": sum(len(self.aligned[i].windowed_text.offsets) for i in chosen),
            "entities": sum(len(self.pool[i].entities) for i in chosen),
        }

    def _train(self, chosen: Sequence[int], seed: int) -> Tagger:
        model = self.folder / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.rmtree(self.folder / "steps", ignore_errors=True)
        training = [self.aligned[i] for i in chosen]
        windows = WindowDataset(training), WindowDataset(training[:_DEVELOPMENT])
        train(self.params(seed), self.base, KLUE, *windows, model, self.folder / "steps", "run")
        return Tagger.load(model, "cpu", 1)

    def _evaluate(self, tagger: Tagger) -> float:
        tagged = tagger.tag_all([sentence.text for sentence in self.test])
        predicted = [to_entities(text.entities) for text in tagged]
        return span_scores(zip((sentence.entities for sentence in self.test), predicted, strict=True))["f1"]

    def _choose(self, strategies: Sequence[str], tagger: Tagger, seed: int, chosen: Sequence[int]) -> dict[str, Any]:
        """Return the batch of the pool that each strategy annotates next."""
        annotated = set(chosen)
        # In the order of the random choice.
        rest = [i for i in self._random_order(seed) if i not in annotated]
        candidates = find_candidates(tagger, [self.pool[i].text for i in rest])
        numbers = {id(candidate): i for candidate, i in zip(candidates, rest, strict=True)}
        batches = self._batches(candidates)
        described = {name: self._describe_batch(batches[name], numbers) for name in strategies}
        if RANDOM in strategies:
            for name, different in self._count_different(tagger, rest[:_COPIED]).items():
                described[name]["different"] = different
        return described

    def _batches(self, candidates: Sequence[Candidate]) -> dict[str, Sequence[Candidate]]:
        """Return the batch of each strategy from candidates in random order."""
        step = self.arguments.step
        by_uncertainty = sorted(candidates, key=lambda candidate: -candidate.normalized_uncertainty)
        return {
            RANDOM: candidates[:step],
            UNCERTAINTY: by_uncertainty[:step],
            SELECT: choose(candidates, min(step, len(candidates))),
        }

    def _count_different(self, tagger: Tagger, chosen: Sequence[int]) -> dict[str, int]:
        """Return for each strategy how many of some sentences its batch has, if each occurs several times."""
        sentences = [self.pool[i] for i in chosen]
        names = read_names(NAMES, sentences)
        copies = [s.text for seed in range(_COPIES) for s in augment_sentences(sentences, names, 1, seed)]
        candidates = find_candidates(tagger, copies)
        origins = {id(candidate): i % len(sentences) for i, candidate in enumerate(candidates)}
        shuffled = [candidates[i] for i in np.random.default_rng(0).permutation(len(candidates))]
        return {name: len({origins[id(c)] for c in batch}) for name, batch in self._batches(shuffled).items()}

    def _describe_batch(self, batch: Sequence[Candidate], numbers: dict[int, int]) -> dict[str, Any]:
        chosen = [numbers[id(candidate)] for candidate in batch]
        errors = sum(
            len({*self.pool[i].entities} ^ {*to_entities(candidate.entities)})
            for i, candidate in zip(chosen, batch, strict=True)
        )
        return {**self._count(chosen), "errors": errors, "chosen": chosen}


def to_entities(scored: Sequence[ScoredEntity]) -> list[Entity]:
    """Return entities without their scores."""
    return [Entity(entity.start, entity.end, entity.label) for entity in scored]


def plot(points: dict[str, list[list[Point]]], path: Path) -> None:
    """Draw the mean span F1 of the seeds against the annotated sentences and tokens, with the range of the seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, unit in zip(axes, ("sentences", "tokens"), strict=True):
        for name, rounds in points.items():
            x = [mean(point[unit] for point in seeds) for seeds in rounds]
            f1 = [[point["f1"] for point in seeds] for seeds in rounds]
            axis.plot(x, list(map(mean, f1)), marker="o", markersize=3, label=name)
            axis.fill_between(x, list(map(min, f1)), list(map(max, f1)), alpha=0.15)
        axis.set_xlabel(f"annotated {unit}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("span F1, validation part")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def make_rows(points: dict[str, list[list[Point]]]) -> list[list[str]]:
    """Return the rows of the table: a round of a strategy, with the means of the seeds."""
    return [
        [
            name,
            *(f"{mean(point[unit] for point in seeds):.0f}" for unit in ("sentences", "tokens", "entities")),
            f"{mean(point['f1'] for point in seeds):.4f}",
            " ".join(f"{point['f1']:.4f}" for point in seeds),
        ]
        for name, rounds in points.items()
        for seeds in rounds
    ]


def make_batch_rows(starts: Sequence[Point]) -> list[list[str]]:
    """Return the rows of the table of first batches, with the means of the seeds."""
    units = ("tokens", "entities", "errors", "different")
    return [
        [name, *(f"{mean(start['next'][name][unit] for start in starts):.0f}" for unit in units)] for name in STRATEGIES
    ]


def describe_target(points: dict[str, list[list[Point]]], target: int) -> list[str]:
    """Return for each strategy the fewest sentences with which it reaches the F1 of `target` random ones."""
    at_target = [seeds for seeds in points.get(RANDOM, []) if seeds[0]["sentences"] == target]
    if not at_target:
        return []
    goal = mean(point["f1"] for point in at_target[0])
    lines = [f"random choice of {target} sentences: {goal:.4f}"]
    for name, rounds in points.items():
        reached = [seeds for seeds in rounds if mean(point["f1"] for point in seeds) >= goal]
        if reached:
            sentences, tokens = (mean(point[unit] for point in reached[0]) for unit in ("sentences", "tokens"))
            lines.append(f"{name} reaches it with {sentences:.0f} sentences, {tokens:.0f} tokens")
        else:
            lines.append(f"{name} does not reach it")
    return lines


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--source", required=True, help="as the parameter `source`")
    parser.add_argument("--source-config", default="ner", help="as the parameter `source_config`")
    parser.add_argument("--base-model", default=MINI, help="as the parameter `base_model` (default: %(default)s)")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="default: all")
    parser.add_argument("--start", type=int, default=200, help="random sentences of round 0 (default: %(default)s)")
    parser.add_argument("--step", type=int, default=200, help="sentences added in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--only", type=int, nargs="+", help="rounds to show; those that they need are computed, too")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 1 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of each training (default: %(default)s)")
    parser.add_argument("--target", type=int, default=1600, help="random sentences to compare with")
    parser.add_argument("--folder", type=Path, default=Path("models/selection"), help="default: %(default)s")
    parser.add_argument("--plot", type=Path, help="a PNG file for the curves")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n", flush=True)
    simulation = Simulation(arguments)
    numbers, seeds = arguments.only or range(arguments.rounds + 1), range(1, arguments.seeds + 1)
    for seed in seeds:
        for strategy in arguments.strategies:
            for number in numbers:
                simulation.point(strategy, seed, number)
    points = {
        strategy: [[simulation.point(strategy, seed, number) for seed in seeds] for number in numbers]
        for strategy in arguments.strategies
    }
    starts = [simulation.point(RANDOM, seed, 0) for seed in seeds]
    batch_head = ["first batch", "tokens", "entities", "entities wrong by the model", "different sentences of copies"]
    print(f"\n{format_table(batch_head, make_batch_rows(starts))}")
    head = ["strategy", "sentences", "tokens", "entities", "span F1", "by seed"]
    print(f"\n{format_table(head, make_rows(points))}\n")
    print("\n".join(describe_target(points, arguments.target)))
    if arguments.plot:
        plot(points, arguments.plot)


if __name__ == "__main__":
    with exit_on_error():
        main()
