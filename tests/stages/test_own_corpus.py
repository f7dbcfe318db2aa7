"""A corpus of one file, as an annotation tool exports it, in the pipeline."""

import csv
import json

from koner.corpus.inline import parse_inline
from tests.stages.typed_commands import SMALL, commit, metrics, run, set_params


def test_a_single_file_is_trained_on_and_tested_on(root, clone_without_outputs):
    folder = clone_without_outputs
    lines = (root / "koner/resources/sample/train.news.txt").read_text(encoding="utf-8").splitlines()[:100]
    with (folder / "calls.jsonl").open("w", encoding="utf-8") as file:
        for text, entities in map(parse_inline, lines):
            label = [[e.start, e.end, e.label] for e in entities]
            # The particle's space at the end of the first entity, as annotators leave it.
            label[:1] = [[s, e + 1, t] for s, e, t in label[:1] if text[e : e + 1] == " "] or label[:1]
            file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    set_params(folder, source="calls.jsonl", watch="calls.jsonl", test_share=0.2, **SMALL)
    commit(folder, "a corpus of one file")
    run(folder, "dvc", "repro", "split")
    figures = metrics(folder, "prepare")
    assert figures["source_format"] == "doccano"
    assert figures["train"]["sentences"] + figures["test"]["sentences"] == 100
    assert 15 <= figures["test"]["sentences"] <= 25
    with (folder / "data/corpus/changes.csv").open(encoding="utf-8", newline="") as file:
        changes = list(csv.DictReader(file))
    assert figures["changes"] == {"trimmed": len(changes)}
    assert changes
    assert changes[0]["where"].startswith("calls.jsonl:")
    sizes = metrics(folder, "split")["sentences"]
    assert sizes["test"] == figures["test"]["sentences"]
    assert sizes["train"] + sizes["development"] <= figures["train"]["sentences"]
