"""The whole pipeline on a corpus with 150 types of odd names."""

import importlib
import json
import random

import pytest
from ruamel.yaml import YAML

from koner.corpus.label_files import read_labels
from koner.inference.tagger import Tagger
from koner.labels.bio import Entity, entities_to_bio
from koner.labels.label_set import LabelSet
from koner.labels.styles import read_styles
from koner.params import load_params

ODD = [
    "5GPLN",
    "LCP-CITY",
    "LCP_CITY",
    "LCP",
    "인명",
    "A",
    "A-",
    "-A",
    "B-A",
    "I",
    "B",
    "a",
    "$x$",
    "a|b",
    "&lt;",
    "'\"",
]
TYPES = [*ODD, *(f"TYPE_{i}" for i in range(150 - len(ODD)))]
COMMON, ONCE = TYPES[:-10], TYPES[-10:]
STAGES = ("prepare", "retag", "split", "train", "export", "evaluate", "package")
CHANGES = {
    "base_model": "scratch",
    "vocab_min_count": 1,
    "layers": 1,
    "hidden_size": 16,
    "heads": 2,
    "max_length": 32,
    "stride": 8,
    "epochs": 1,
    "augment": 1,
    "development_share": 0.3,
    "max_divergence": 1.0,
    "serve_precision": "fp32",
}


def write_part(path, types, seed):
    generator = random.Random(seed)  # noqa: S311
    blocks = []
    for number, type_ in enumerate(types):
        word, other = f"낱말{TYPES.index(type_)}", generator.choice([type_] if type_ in ONCE else COMMON)
        text = f"{word}하고 {word} {number}번"
        second = len(word) + 3
        entities = [Entity(0, len(word), type_), Entity(second, second + len(word), other)]
        lines = "\n".join(f"{c}\t{t}" for c, t in zip(text, entities_to_bio(entities, len(text)), strict=True))
        blocks.append(f"## {path.stem}-{number}-odd\t{text}\n{lines}\n")
    path.write_text("\n".join(blocks), encoding="utf-8")


@pytest.fixture(scope="module")
def project(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "corpus").mkdir()
    write_part(folder / "corpus/odd_train.tsv", COMMON * 3 + ONCE, 1)
    write_part(folder / "corpus/odd_dev.tsv", TYPES, 2)
    (folder / "corpus/labels.yaml").write_text(
        '인명: {ko: 사람 이름, en: person, color: "#abcdef"}\n', encoding="utf-8"
    )
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load((root / "params.yaml").read_text(encoding="utf-8")) | CHANGES
    values |= {"source": "corpus", "watch": "corpus", "labels": TYPES}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(values, file)
    (folder / "stages").mkdir()
    for name in ("dvc.yaml", "stages/versions.yaml"):
        (folder / name).write_bytes((root / name).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            importlib.import_module(f"stages.{stage}").main()
    return folder


def metrics(project, name):
    return json.loads((project / f"metrics/{name}.json").read_text(encoding="utf-8"))


def test_the_label_set_comes_with_the_data_and_goes_with_the_model(project):
    labels = LabelSet.of(TYPES)
    assert load_params(project / "params.yaml").labels == TYPES
    assert read_labels(project / "data/corpus/labels.json") == labels
    tagger = Tagger.load(project / "models/ner", "cpu")
    assert (tagger.label_set, tagger.token_labels) == (labels, list(labels.tags))
    styles = read_styles(project / "models/ner/labels.yaml", labels)
    assert (len(styles), styles[0].ko) == (150, "사람 이름")
    assert {e.label for e in tagger.tag("낱말1하고 낱말2")} <= set(TYPES)


def test_figures_count_every_type(project):
    figures = metrics(project, "evaluate")
    for protocol in ("wordpiece", "klue", "span"):
        assert sorted(figures[protocol]["by_type"]) == sorted(TYPES)
    gold = {type_: scores["gold"] for type_, scores in figures["span"]["by_type"].items()}
    assert gold == {type_: scores["gold"] for type_, scores in figures["klue"]["by_type"].items()}
    assert sum(gold.values()) == figures["entities"] == 300
    split = metrics(project, "split")
    assert split["unique"] == {"types": 10, "sentences": 10}
    assert {type_ for type_ in ONCE if split["entities"]["train"][type_]} == set(ONCE)
    assert metrics(project, "prepare")["train"]["entities"]["all"] == 860


def test_report_and_card_show_every_type(project):
    report = (project / "plots/evaluate/report.html").read_text(encoding="utf-8")
    assert "the 21 most confused of 151" in report
    assert "the 21 most confused of 301" in report
    for label, shown in (("LCP-CITY", "LCP-CITY"), ("인명", "인명"), ("&lt;", "&amp;lt;"), ("'\"", "&#39;&#34;")):
        assert label in TYPES
        assert f'">{shown}</span>' in report
    assert "person" in report
    card = (project / "models/ner/README.md").read_text(encoding="utf-8")
    assert "named entities of 150 types" in card
    assert r"| a|b |" not in card
    assert "| LCP-CITY | LCP-CITY | LCP-CITY |" in card
