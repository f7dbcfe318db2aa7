"""Compare runtimes and forms of a model on this CPU, from texts to entities.

    python -m benchmarks.runtimes [--source FOLDER] [--config FOLDER] [--ways WAY ...]

The model has the shape of klue/roberta-base and random weights; it tags real sentences, sorted by length, in batches of
1 and of 16. `pipeline` is that of transformers; the other ways share the project's tokenizer and decoder, and all have
the same number of threads. `koner` is ONNX Runtime with the files of the export stage. OpenVINO is left out if it is
not installed.

Prints sentences per second and the ratio to the first way: medians of the repeats, between which the order of the ways
rotates; a ratio compares runs of the same repeat. `same tags` checks that a way computes the same as PyTorch; it says
nothing about accuracy, because the weights are random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import alternative_runtimes, random_model, sentences
from benchmarks.openvino_runtime import OpenVinoRuntime
from benchmarks.reporting import describe_machine, format_median, format_table, make_parser, paired_ratios
from koner.errors import exit_on_error
from koner.export.onnx import Precision, export_onnx
from koner.hardware import usable_cores
from koner.inference.runtimes import OnnxRuntime, Runtime
from koner.inference.tagger import TaggedText, Tagger

BATCH_SIZES = (1, 16)
BASELINE, REFERENCE = "pipeline", "torch fp32"
_CALIBRATION_SENTENCES = 128
_PAUSE = 0.2  # seconds

# A function that tags a batch of texts; the pipeline returns no token tags.
TagFunction = Callable[[list[str]], Sequence[TaggedText] | None]
Rates = dict[int, dict[str, list[float]]]


@dataclass(frozen=True)
class Model:
    """A model and the ONNX files that are made of it on demand.

    Attributes:
        folder: The folder of the model.
        tagger: The tagger over PyTorch.
        onnx_folder: The folder for ONNX files.
        threads: The number of threads of every runtime.
        texts: The texts for calibration.
    """

    folder: Path
    tagger: Tagger
    onnx_folder: Path
    threads: int
    texts: list[str]

    def koner_onnx(self, precision: Precision) -> Path:
        """Return the ONNX file that the export stage writes."""
        return self._cache(f"koner-{precision}", lambda path: export_onnx(self.folder, path, precision))

    def standard_onnx(self) -> Path:
        """Return an ONNX file with standard operators only."""
        return self._cache("standard", lambda path: alternative_runtimes.export_standard_operators(self.folder, path))

    def dynamic_int8(self) -> Path:
        """Return the project's fp32 file, quantized dynamically by ONNX Runtime's tool."""
        source = self.koner_onnx("fp32")
        return self._cache("dynamic-int8", lambda path: alternative_runtimes.quantize_dynamically(source, path))

    def static_int8(self) -> Path:
        """Return the file with standard operators, quantized statically by ONNX Runtime's tool."""
        source = self.standard_onnx()
        return self._cache(
            "static-int8",
            lambda path: alternative_runtimes.quantize_statically(source, path, self.tagger, self.texts),
        )

    def pipeline(self) -> TagFunction:
        """Return the pipeline of transformers."""
        from transformers import pipeline

        classify: Any = pipeline("token-classification", model=str(self.folder), aggregation_strategy="simple")

        def tag(texts: list[str]) -> None:
            # As users call it: with a batch size only if there is more than one text.
            classify(texts, batch_size=len(texts)) if len(texts) > 1 else classify(texts[0])

        return tag

    def with_runtime(self, runtime: Runtime) -> TagFunction:
        """Return the project's tagger over a runtime."""
        tagger = copy(self.tagger)
        tagger.runtime = runtime
        return tagger.tag_all

    def with_onnx_runtime(self, path: Path) -> TagFunction:
        """Return the project's tagger over ONNX Runtime."""
        return self.with_runtime(OnnxRuntime(path, self.threads))

    def with_openvino(self, path: Path, precision: str = "f32") -> TagFunction:
        """Return the project's tagger over OpenVINO."""
        return self.with_runtime(OpenVinoRuntime(path, self.threads, precision))

    def with_bfloat16(self) -> TagFunction:
        """Return the project's tagger over PyTorch in bfloat16."""
        return self.with_runtime(alternative_runtimes.BFloat16Runtime(self.folder, self.threads))

    def _cache(self, name: str, write: Callable[[Path], None]) -> Path:
        path = self.onnx_folder / f"{name}.onnx"
        if not path.exists():
            write(path)
        return path


WAYS: dict[str, Callable[[Model], TagFunction]] = {
    BASELINE: lambda model: model.pipeline(),
    REFERENCE: lambda model: model.tagger.tag_all,
    "torch bf16": lambda model: model.with_bfloat16(),
    "koner fp32": lambda model: model.with_onnx_runtime(model.koner_onnx("fp32")),
    "koner int8": lambda model: model.with_onnx_runtime(model.koner_onnx("int8")),
    "ONNX Runtime dynamic int8": lambda model: model.with_onnx_runtime(model.dynamic_int8()),
    "ONNX Runtime static int8": lambda model: model.with_onnx_runtime(model.static_int8()),
    "OpenVINO fp32": lambda model: model.with_openvino(model.standard_onnx()),
    "OpenVINO bf16": lambda model: model.with_openvino(model.standard_onnx(), "bf16"),
    "OpenVINO static int8": lambda model: model.with_openvino(model.static_int8()),
}


def make_batches(texts: Sequence[str], size: int) -> list[list[str]]:
    """Divide texts, sorted by length, into batches."""
    ordered = sorted(texts, key=len)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def token_tags(tag: TagFunction, texts: Sequence[str]) -> list[str]:
    """Return the tags of all tokens of the texts; empty if the function returns none."""
    results = [tag(batch) for batch in make_batches(texts, BATCH_SIZES[-1])]
    return [token_tag for batch in results for tagged in batch or () for token_tag in tagged.token_tags]


def measure(functions: dict[str, TagFunction], texts: list[str], repeats: int) -> Rates:
    """Return the sentences per second of each repeat, by batch size and way."""
    rates: Rates = {size: {name: [] for name in functions} for size in BATCH_SIZES}
    names = list(functions)
    for size in BATCH_SIZES:
        batches = make_batches(texts, size)
        for repeat in range(repeats):
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                # The threads of the previous way may still be spinning.
                time.sleep(_PAUSE)
                start = time.perf_counter()
                for batch in batches:
                    functions[name](batch)
                rates[size][name].append(len(texts) / (time.perf_counter() - start))
            print(f"batches of {size}: repeat {repeat + 1} of {repeats}", flush=True)
    return rates


def format_rates(rates: Rates, tags: dict[str, list[str]], baseline: str) -> str:
    """Format the medians of the rates and of the ratios to the baseline as a Markdown table."""
    head = ["way"]
    for size in rates:
        head += [f"batch {size}, sentences/s", f"x {baseline}"]
    rows = []
    expected_tags = tags.get(REFERENCE, [])
    for name in tags:
        row = [name]
        for size in rates:
            ratios = paired_ratios(rates[size][name], rates[size][baseline])
            row += [format_median(rates[size][name]), format_median(ratios, 2)]
        same = sum(a == b for a, b in zip(tags[name], expected_tags, strict=False))
        rows.append([*row, f"{same / len(expected_tags):.2%}" if expected_tags and tags[name] else "-"])
    return format_table([*head, f"same tags as {REFERENCE}"], rows)


def main() -> None:
    parser = make_parser(__doc__)
    sentences.add_options(parser, sentences=160)
    random_model.add_options(parser)
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="threads of every way (default: one per core)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of every way (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=list(WAYS), help=", ".join(WAYS))
    arguments = parser.parse_args()
    names = [name for name in arguments.ways if not name.startswith("OpenVINO") or find_spec("openvino")]
    corpus = sentences.read_sentences(arguments)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random_model.write_model(folder / "model", arguments.config, arguments.layers, corpus.train)
        tagger = Tagger.load(folder / "model", "cpu", arguments.threads)
        calibration_texts = [sentence.text for sentence in corpus.train[:_CALIBRATION_SENTENCES]]
        model = Model(folder / "model", tagger, folder, arguments.threads, calibration_texts)
        functions = {name: WAYS[name](model) for name in names}
        tags = {name: token_tags(tag, corpus.texts) for name, tag in functions.items()}
        rates = measure(functions, corpus.texts, arguments.repeats)
    counts = f"{len(corpus.texts)} sentences, {arguments.repeats} repeats"
    print(f"\n{describe_machine()}, threads: {arguments.threads}; {counts}\n")
    print(format_rates(rates, tags, baseline=names[0]))


if __name__ == "__main__":
    with exit_on_error():
        main()
