"""Compare the throughput with 6 and with 142 types, of the same encoder: of the tagger, then of the service over HTTP.

The types of the second model are variants of those of the first. Its head has for each tag the weights of the tag that
it is a variant of, with a little noise, so that both models predict about as many entities.

    python -m benchmarks.label_sets [--precision fp32]

The tagger is measured in CPU time of one thread. The service is `python -m app` with 16 clients, which share the cores
with it; its CPU time for an answer tells more than its rate if other programs use the cores, too. Prints the medians of
runs, in which the two models take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel

from benchmarks.experts import CALIBRATION_SENTENCES
from benchmarks.load import Load
from benchmarks.processes import Service, request_body
from benchmarks.random_model import pin_model
from benchmarks.reporting import alternate, describe_machine, make_parser, paired_ratios, positive_number
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError, exit_on_error
from koner.export.onnx import export_onnx
from koner.inference.runtimes import ONNX_FILE
from koner.inference.tagger import Tagger
from koner.labels.bio import OUTSIDE, tag_type
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.params import SAMPLE
from koner.resources import KONER_MINI

_NOISE = 0.02
_MODEL = Path("models/ner")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--types", type=int, default=142, help="types of the second model (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=256, help="sentences in a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each tagger (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=3, help="starts of each service (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="of the service (default: %(default)s)")
    parser.add_argument("--seconds", type=positive_number, default=10, help="of each load (default: %(default)s)")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n")
    parts = read_checked(read_source(SAMPLE, "ner", None))
    texts = [s.text for s in parts["validation"]][: arguments.sentences]
    calibration_texts = [s.text for s in parts["train"]][:CALIBRATION_SENTENCES]
    with TemporaryDirectory() as temporary:
        folders = []
        for labels in (KLUE, _variants(arguments.types)):
            folders.append(Path(temporary) / str(len(labels.types)))
            _write_model(folders[-1] / _MODEL, labels)
            model = folders[-1] / _MODEL
            encoded = Tagger.load(model, "cpu").encode(calibration_texts)
            windows = [window.input_ids for text in encoded for window in text.windows]
            export_onnx(model, model / ONNX_FILE, arguments.precision, windows)
            pin_model(folders[-1], _MODEL)
        taggers = [Tagger.load(folder / _MODEL, "cpu", threads=1) for folder in folders]
        report("tagger", "sentences a second of a core", measure_taggers(taggers, texts, arguments.runs), arguments)
        rates, answers_by_cpu = measure_services(folders, texts, arguments)
        report("service", "answers a second", rates, arguments)
        report("service", "answers by a second of CPU time", answers_by_cpu, arguments)


def measure_taggers(taggers: Sequence[Tagger], texts: Sequence[str], runs: int) -> list[list[float]]:
    """Return the sentences per second of CPU time of each tagger in each run."""
    rates: list[list[float]] = [[] for _ in taggers]
    for tagger in taggers:
        tagger.tag_all(texts[:32])
    for run in range(runs):
        for i in alternate(range(len(taggers)), run):
            start = time.process_time()
            tagged = taggers[i].tag_all(texts)
            rates[i].append(len(texts) / (time.process_time() - start))
            count = sum(len(text.entities) for text in tagged)
            print(f"{len(taggers[i].label_set.types):4} types: {rates[i][-1]:6.1f} a second, {count} entities")
    return rates


def measure_services(
    folders: Sequence[Path], texts: Sequence[str], arguments: argparse.Namespace
) -> tuple[list[list[float]], list[list[float]]]:
    """Return the answers per second, and per second of CPU time, of each service at each start.

    Raises:
        KonerError: If a request was not answered with 200.
    """
    bodies = [request_body(text) for text in texts]
    rates: list[list[float]] = [[] for _ in folders]
    answers_by_cpu: list[list[float]] = [[] for _ in folders]

    async def put_under_load(service: Service) -> tuple[float, float]:
        async with Load(service.url, bodies) as load:
            await load.run_closed_loop(arguments.clients, arguments.seconds / 4)
            answers, cpu = load.outcome.ok, service.cpu_seconds()
            rate = await load.run_closed_loop(arguments.clients, arguments.seconds)
            by_cpu = (load.outcome.ok - answers) / (service.cpu_seconds() - cpu)
        if load.outcome.ok < load.outcome.sent:
            raise KonerError(f"{load.outcome.sent - load.outcome.ok} requests were not answered with 200")
        return rate, by_cpu

    for start in range(arguments.starts):
        for i in alternate(range(len(folders)), start):
            with Service(["app"], folders[i]) as service:
                service.wait_for_answer(bodies[0])
                rate, by_cpu = asyncio.run(put_under_load(service))
            rates[i].append(rate)
            answers_by_cpu[i].append(by_cpu)
            line = f"{rate:6.1f} answers a second, {1000 / by_cpu:.2f} ms of CPU time each"
            print(f"{folders[i].name:>4} types, service: {line}", flush=True)
    return rates, answers_by_cpu


def report(name: str, unit: str, rates: Sequence[Sequence[float]], arguments: argparse.Namespace) -> None:
    """Print the medians of both models, and the median of what more types cost in the same run."""
    few, many = rates
    ratio = median(paired_ratios(many, few))
    print(f"{name}: {median(few):.1f} {unit} with 6 types, {median(many):.1f} with {arguments.types}")
    print(f"{name}: {arguments.types} types cost {100 * (1 - ratio):.1f}% of throughput (median of {len(few)})\n")


def _variants(count: int) -> LabelSet:
    """Return a label set whose types are variants of those of KLUE-NER, named `PS_0`, `LC_1` and so on."""
    return LabelSet(tuple(f"{KLUE.types[i % len(KLUE.types)]}_{i}" for i in range(count)))


def _write_model(folder: Path, labels: LabelSet) -> None:
    """Write koner-mini with a head over a label set, in the format of transformers."""
    model: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(KONER_MINI)
    origins = [tag if tag == OUTSIDE else f"{tag[0]}-{tag_type(tag).split('_')[0]}" for tag in labels.tags]
    rows = torch.tensor([KLUE.tag_to_id[tag] for tag in origins])
    torch.manual_seed(0)
    with torch.no_grad():
        weight = model.classifier.weight[rows]
        head = torch.nn.Linear(weight.shape[1], len(rows))
        noise = _NOISE * weight.std() if labels != KLUE else 0.0
        head.weight.copy_(weight + noise * torch.randn_like(weight))
        head.bias.copy_(model.classifier.bias[rows])
    model.classifier = head
    model.config.num_labels = len(rows)
    model.num_labels = len(rows)
    model.config.id2label, model.config.label2id = labels.id_to_tag, labels.tag_to_id
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(KONER_MINI).save_pretrained(folder)
    shutil.copy(KONER_MINI / "tokenizer.json", folder / "tokenizer.json")


if __name__ == "__main__":
    with exit_on_error():
        main()
