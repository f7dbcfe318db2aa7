"""What runs the model fastest on this CPU: python -m benchmarks.runtimes [--source FOLDER] [--config FOLDER]

A model of klue/roberta-base's shape with random weights, real sentences in order of length, from text to entities; in
batches of 1 and of 16. `koner` is ONNX Runtime over the files of the export stage; OpenVINO is left out where it is not
installed. Every way has the same threads, and the same tokenizer and decoder but for `pipeline`, which is
transformers' own. Prints medians over the repeats, in which the ways take turns; ratios are of the same repeat. Random
weights say nothing about accuracy: `same tags` is there to show that a way computes what PyTorch does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import material, other_forms, random_model
from benchmarks.reporting import cores, machine, table
from koner.errors import told_plainly
from koner.onnx_export import Precision, export_onnx
from koner.runtime import OnnxRuntime, Runtime
from koner.tagger import Tagged, Tagger

BATCHES = (1, 16)
BASELINE, REFERENCE = "pipeline", "torch fp32"
_CALIBRATION = 128  # sentences

# Tags a batch of texts; the pipeline tells no tags of tokens.
Tag = Callable[[list[str]], Sequence[Tagged] | None]


@dataclass(frozen=True)
class Built:
    """What the ways are made of: a model with its tagger, a folder for ONNX files, threads, texts to calibrate on."""

    model: Path
    torch: Tagger
    scratch: Path
    threads: int
    texts: list[str]

    def own(self, precision: Precision) -> Path:
        """The project's own ONNX file of a precision."""
        return self._written(f"own-{precision}", lambda path: export_onnx(self.model, path, precision))

    def plain(self) -> Path:
        """An ONNX file of standard operators."""
        return self._written("plain", lambda path: other_forms.plain(self.model, path))

    def dynamic_int8(self) -> Path:
        """The project's fp32 file made int8 by ONNX Runtime's tool."""
        return self._written("dynamic-int8", lambda path: other_forms.dynamic_int8(self.own("fp32"), path))

    def static_int8(self) -> Path:
        """A file of standard operators made int8, with scales fixed beforehand, by ONNX Runtime's tool."""
        return self._written(
            "static-int8", lambda path: other_forms.static_int8(self.plain(), path, self.torch, self.texts)
        )

    def _written(self, name: str, write: Callable[[Path], None]) -> Path:
        path = self.scratch / f"{name}.onnx"
        if not path.exists():
            write(path)
        return path

    def pipeline(self) -> Tag:
        """transformers' own way from text to entities."""
        from transformers import pipeline

        found: Any = pipeline("token-classification", model=str(self.model), aggregation_strategy="simple")

        def tag(texts: list[str]) -> None:
            # As one would call it: a batch is only asked for where there is one.
            found(texts, batch_size=len(texts)) if len(texts) > 1 else found(texts[0])

        return tag

    def tagger(self, runtime: Runtime) -> Tag:
        """The tagger of the project over a runtime."""
        tagger = copy(self.torch)
        tagger.runtime = runtime
        return tagger.tag_all


WAYS: dict[str, Callable[[Built], Tag]] = {
    BASELINE: lambda b: b.pipeline(),
    REFERENCE: lambda b: b.torch.tag_all,
    "torch bf16": lambda b: b.tagger(other_forms.BFloat16(b.model, b.threads)),
    "koner fp32": lambda b: b.tagger(OnnxRuntime(b.own("fp32"), b.threads)),
    "koner int8": lambda b: b.tagger(OnnxRuntime(b.own("int8"), b.threads)),
    "ONNX Runtime dynamic int8": lambda b: b.tagger(OnnxRuntime(b.dynamic_int8(), b.threads)),
    "ONNX Runtime static int8": lambda b: b.tagger(OnnxRuntime(b.static_int8(), b.threads)),
    "OpenVINO fp32": lambda b: b.tagger(other_forms.OpenVino(b.plain(), b.threads)),
    "OpenVINO bf16": lambda b: b.tagger(other_forms.OpenVino(b.plain(), b.threads, "bf16")),
    "OpenVINO static int8": lambda b: b.tagger(other_forms.OpenVino(b.static_int8(), b.threads)),
}


def batches_of(texts: Sequence[str], size: int) -> list[list[str]]:
    """Texts in order of length, cut into batches."""
    ordered = sorted(texts, key=len)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def token_tags(tag: Tag, texts: Sequence[str]) -> list[str]:
    """The tags that a way gives to all tokens of texts; none where it tells none."""
    found = [tag(batch) for batch in batches_of(texts, BATCHES[-1])]
    return [t for tagged in found for one in tagged or () for t in one.token_tags]


def measure(ways: dict[str, Tag], texts: list[str], repeats: int) -> dict[int, dict[str, list[float]]]:
    """Sentences a second, by size of batch and way, of each repeat; the ways take turns in going first."""
    rates: dict[int, dict[str, list[float]]] = {size: {name: [] for name in ways} for size in BATCHES}
    names = list(ways)
    for size in BATCHES:
        batches = batches_of(texts, size)
        for repeat in range(repeats):
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                # Threads of the way before may still be spinning.
                time.sleep(0.2)
                start = time.perf_counter()
                for batch in batches:
                    ways[name](batch)
                rates[size][name].append(len(texts) / (time.perf_counter() - start))
            print(f"batches of {size}: repeat {repeat + 1} of {repeats}", flush=True)
    return rates


def shown(rates: dict[int, dict[str, list[float]]], tags: dict[str, list[str]], baseline: str) -> str:
    """The medians, and the medians of the ratios, as a Markdown table."""
    head = ["way"]
    for size in rates:
        head += [f"batch {size}, sentences/s", f"x {baseline}"]
    rows = []
    for name in tags:
        row = [name]
        for size in rates:
            mine, theirs = rates[size][name], rates[size][baseline]
            row += [f"{median(mine):.1f}", f"{median(a / b for a, b in zip(mine, theirs, strict=True)):.2f}"]
        expected = tags.get(REFERENCE, [])
        same = sum(a == b for a, b in zip(tags[name], expected, strict=False))
        rows.append([*row, f"{same / len(expected):.2%}" if expected and tags[name] else "-"])
    return table([*head, f"same tags as {REFERENCE}"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    material.add_options(parser, sentences=160)
    random_model.add_options(parser)
    parser.add_argument("--threads", type=int, default=cores(), help="threads of every way, %(default)s")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    names = [name for name in arguments.ways if not name.startswith("OpenVINO") or find_spec("openvino")]
    found = material.read_material(arguments)
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        random_model.write_model(scratch / "model", arguments.config, arguments.layers, found.train)
        tagger = Tagger.load(scratch / "model", "cpu", arguments.threads)
        calibration = [sentence.text for sentence in found.train[:_CALIBRATION]]
        built = Built(scratch / "model", tagger, scratch, arguments.threads, calibration)
        ways = {name: WAYS[name](built) for name in names}
        tags = {name: token_tags(tag, found.texts) for name, tag in ways.items()}
        rates = measure(ways, found.texts, arguments.repeats)
    print(f"\n{machine()}, threads: {arguments.threads}; {len(found.texts)} sentences, {arguments.repeats} repeats\n")
    print(shown(rates, tags, baseline=names[0]))


if __name__ == "__main__":
    with told_plainly():
        main()
