"""Compare runtimes and forms of a model on this CPU, from texts to entities.

    python -m benchmarks.runtimes [--config FOLDER] [--threads 1] [--batch-sizes 1 16] [--tokens N] [--ways WAY ...]

The model has the shape of klue/roberta-base and random weights; it tags real sentences, sorted by length, in batches of
1 and of 16; with --tokens, only those with that many tokens, so that no batch is padded. `pipeline` is that of
transformers; the other ways share the project's tokenizer and decoder, and all have the same number of threads. `koner`
is ONNX Runtime with the files of the export stage; `fused` is its fp32 file, quantized by ONNX Runtime's tool. A way
whose packages are not installed is left out.

Prints tokens per second of CPU time (user and system time of this process, which depends little on other programs on
the machine), sentences per second, and the ratio of the latter to the first way: medians of the repeats, between which
the order of the ways rotates; a ratio compares runs of the same repeat. `same tags` checks that a way computes the same
as PyTorch; it says nothing about accuracy, because the weights are random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import alternative_runtimes, experts, random_model, sentences
from benchmarks.openvino_runtime import OpenVinoRuntime, quantize_by_nncf
from benchmarks.reporting import (
    describe_machine,
    describe_run,
    format_median,
    format_table,
    make_parser,
    paired_ratios,
)
from koner.errors import KonerError, exit_on_error
from koner.export.onnx import Precision, export_onnx
from koner.hardware import usable_cores
from koner.inference.runtimes import OnnxRuntime, Runtime
from koner.inference.tagger import TaggedText, Tagger

BASELINE, REFERENCE = "pipeline", "torch fp32"
VERSIONS = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
_PAUSE = 0.2  # seconds

# A function that tags a batch of texts; the pipeline returns no token tags.
TagFunction = Callable[[list[str]], Sequence[TaggedText] | None]


@dataclass(frozen=True)
class Speed:
    """The speed of a way in one repeat.

    Attributes:
        sentences: Sentences per second.
        tokens: Tokens per second of CPU time.
    """

    sentences: float
    tokens: float


Speeds = dict[int, dict[str, list[Speed]]]


@dataclass(frozen=True)
class Model:
    """A model and the files that are made of it on demand for other runtimes.

    Attributes:
        folder: The folder of the model.
        tagger: The tagger over PyTorch.
        onnx_folder: The folder for these files.
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
        return self._cache(
            f"koner-{precision}.onnx",
            lambda path: export_onnx(self.folder, path, precision, self.calibration_windows()),
        )

    def calibration_windows(self) -> list[tuple[int, ...]]:
        """Return the token ids of the windows of the texts for calibration."""
        return [window.input_ids for text in self.tagger.encode(self.texts) for window in text.windows]

    def standard_onnx(self) -> Path:
        """Return an ONNX file with standard operators only."""
        return self._cache(
            "standard.onnx", lambda path: alternative_runtimes.export_standard_operators(self.folder, path)
        )

    def dynamic_int8(self) -> Path:
        """Return the file with standard operators, fused and quantized dynamically by ONNX Runtime's tools."""
        source = self._cache(
            "fused.onnx",
            lambda path: alternative_runtimes.fuse_by_default(self.standard_onnx(), path, self.folder),
        )
        return self._cache("dynamic-int8.onnx", lambda path: alternative_runtimes.quantize_dynamically(source, path))

    def static_int8(self) -> Path:
        """Return the file with standard operators, quantized statically by ONNX Runtime's tool."""
        source = self.standard_onnx()
        return self._cache(
            "static-int8.onnx",
            lambda path: alternative_runtimes.quantize_statically(source, path, self.tagger, self.texts),
        )

    def nncf_int8(self) -> Path:
        """Return the file with standard operators, quantized by NNCF, in OpenVINO's format."""
        source, windows = self.standard_onnx(), self.calibration_windows()
        return self._cache("nncf-int8.xml", lambda path: quantize_by_nncf(source, path, windows))

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
        path = self.onnx_folder / name
        if not path.exists():
            write(path)
        return path


WAYS: dict[str, Callable[[Model], TagFunction]] = {
    BASELINE: lambda model: model.pipeline(),
    REFERENCE: lambda model: model.tagger.tag_all,
    "torch bf16": lambda model: model.with_bfloat16(),
    "koner fp32": lambda model: model.with_onnx_runtime(model.koner_onnx("fp32")),
    "koner int8": lambda model: model.with_onnx_runtime(model.koner_onnx("int8")),
    "koner int8-dynamic": lambda model: model.with_onnx_runtime(model.koner_onnx("int8-dynamic")),
    "ONNX Runtime dynamic int8, fused": lambda model: model.with_onnx_runtime(model.dynamic_int8()),
    "ONNX Runtime static int8": lambda model: model.with_onnx_runtime(model.static_int8()),
    "OpenVINO fp32": lambda model: model.with_openvino(model.standard_onnx()),
    "OpenVINO bf16": lambda model: model.with_openvino(model.standard_onnx(), "bf16"),
    "OpenVINO static int8": lambda model: model.with_openvino(model.static_int8()),
    "OpenVINO int8 by NNCF": lambda model: model.with_openvino(model.nncf_int8()),
}
# The packages that each way needs besides those of the project.
PACKAGES = {name: [package for package in ("openvino", "nncf") if package in name.lower()] for name in WAYS}


def make_batches(texts: Sequence[str], size: int) -> list[list[str]]:
    """Divide texts, sorted by length, into batches."""
    ordered = sorted(texts, key=len)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def select_texts(tagger: Tagger, texts: Sequence[str], tokens: int | None) -> tuple[list[str], int]:
    """Return the texts that are one window with a number of tokens (None for all), and the number of tokens in them.

    Raises:
        KonerError: If there is none.
    """
    lengths = [[len(window) for window in text.windows] for text in tagger.encode(texts)]
    selected = [i for i, windows in enumerate(lengths) if tokens is None or windows == [tokens]]
    if not selected:
        raise KonerError(f"--tokens: none of the {len(texts)} sentences has {tokens} tokens")
    return [texts[i] for i in selected], sum(sum(lengths[i]) for i in selected)


def token_tags(tag: TagFunction, texts: Sequence[str], size: int) -> list[str]:
    """Return the tags of all tokens of the texts, tagged in batches; empty if the function returns none."""
    results = [tag(batch) for batch in make_batches(texts, size)]
    return [token_tag for batch in results for tagged in batch or () for token_tag in tagged.token_tags]


def measure_speed(tag: TagFunction, batches: Sequence[list[str]], tokens: int) -> Speed:
    """Tag batches with `tokens` tokens in all."""
    start, cpu_start = time.perf_counter(), time.process_time()
    for batch in batches:
        tag(batch)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Speed(sum(map(len, batches)) / seconds, tokens / cpu_seconds)


def measure(
    functions: dict[str, TagFunction], texts: Sequence[str], tokens: int, sizes: Sequence[int], repeats: int
) -> Speeds:
    """Return the speed in each repeat, by batch size and way."""
    speeds: Speeds = {size: {name: [] for name in functions} for size in sizes}
    names = list(functions)
    for size in sizes:
        batches = make_batches(texts, size)
        for repeat in range(repeats):
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                # The threads of the previous way may still be spinning.
                time.sleep(_PAUSE)
                speeds[size][name].append(measure_speed(functions[name], batches, tokens))
            print(f"batches of {size}: repeat {repeat + 1} of {repeats}", flush=True)
    return speeds


def format_speeds(speeds: Speeds, tags: dict[str, list[str]], baseline: str) -> str:
    """Format the medians of the speeds and of the ratios to the baseline as a Markdown table."""
    head = ["way"]
    for size in speeds:
        head += [f"batch {size}, tokens/CPU s", "sentences/s", f"x {baseline}"]
    rows = []
    expected_tags = tags.get(REFERENCE, [])
    for name in tags:
        row = [name]
        for ways in speeds.values():
            rates, baseline_rates = ([speed.sentences for speed in ways[way]] for way in (name, baseline))
            tokens = round(median(speed.tokens for speed in ways[name]))
            row += [f"{tokens:,}", format_median(rates), format_median(paired_ratios(rates, baseline_rates), 2)]
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
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16], metavar="N", help="default: 1 16")
    parser.add_argument("--tokens", type=int, help="only the sentences with so many tokens (default: all)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", help=f"default: all of {', '.join(WAYS)}")
    arguments = parser.parse_args()
    names = experts.select(arguments.ways, PACKAGES)
    corpus = sentences.read_sentences(arguments)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random_model.write_model(folder / "model", arguments.config, arguments.layers, corpus.train)
        tagger = Tagger.load(folder / "model", "cpu", arguments.threads)
        texts, tokens = select_texts(tagger, corpus.texts, arguments.tokens)
        calibration_texts = [sentence.text for sentence in corpus.train[: experts.CALIBRATION_SENTENCES]]
        model = Model(folder / "model", tagger, folder, arguments.threads, calibration_texts)
        functions = {name: WAYS[name](model) for name in names}
        tags = {name: token_tags(tag, texts, arguments.batch_sizes[-1]) for name, tag in functions.items()}
        speeds = measure(functions, texts, tokens, arguments.batch_sizes, arguments.repeats)
    counts = f"{len(texts)} sentences with {tokens:,} tokens, {arguments.repeats} repeats"
    print(f"\n{describe_machine()}, threads: {arguments.threads}; {counts}\n{describe_run(VERSIONS)}\n")
    print(format_speeds(speeds, tags, baseline=names[0]))


if __name__ == "__main__":
    with exit_on_error():
        main()
