"""Compare the throughput of tagging with 6 and with 142 types, by the same encoder, side by side.

The types of the second model are variants of those of the first. Its head has for each tag the weights of the tag that
it is a variant of, with a little noise, so that both models predict about as many entities.

    python -m benchmarks.label_sets
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel

from benchmarks.reporting import describe_machine, make_parser
from koner.corpus.sources import read_checked, read_source
from koner.errors import exit_on_error
from koner.export.onnx import export_onnx
from koner.inference.runtimes import ONNX_FILE
from koner.inference.tagger import Tagger
from koner.labels.bio import OUTSIDE, tag_type
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.params import SAMPLE
from koner.resources import KONER_MINI

_NOISE = 0.02


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--types", type=int, default=142, help="types of the second model (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=256, help="sentences in a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each model (default: %(default)s)")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n")
    texts = [s.text for s in read_checked(read_source(SAMPLE, "ner", None))["validation"]][: arguments.sentences]
    with TemporaryDirectory() as folder:
        taggers = []
        for labels in (KLUE, _variants(arguments.types)):
            path = Path(folder) / str(len(labels.types))
            _write_model(path, labels)
            export_onnx(path, path / ONNX_FILE, arguments.precision)
            taggers.append(Tagger.load(path, "cpu", threads=1))
        seconds: list[list[float]] = [[] for _ in taggers]
        for tagger in taggers:
            tagger.tag_all(texts[:32])
        # In turn, so that other load on the machine meets both.
        for _ in range(arguments.runs):
            for tagger, of_tagger in zip(taggers, seconds, strict=True):
                start = time.process_time()
                tagged = tagger.tag_all(texts)
                of_tagger.append(time.process_time() - start)
                count = sum(len(text.entities) for text in tagged)
                print(f"{len(tagger.label_set.types):4} types: {of_tagger[-1]:6.3f} s of a core, {count} entities")
    few, many = (median(of_tagger) for of_tagger in seconds)
    for tagger, value in zip(taggers, (few, many), strict=True):
        print(f"{len(tagger.label_set.types):4} types: {len(texts) / value:8.1f} sentences a second of a core")
    print(f"cost of {arguments.types} types: {100 * (1 - few / many):.1f}% of throughput (medians of {arguments.runs})")


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
