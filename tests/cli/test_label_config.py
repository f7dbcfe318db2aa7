"""The labelling config that `koner label-config` prints."""

import json

import pytest
from click.testing import CliRunner

from koner.annotation.label_studio import parse_label_config
from koner.cli.main import main
from koner.labels.klue import KLUE
from tests.inference.table_model import write_model


def run(*arguments):
    return CliRunner().invoke(main, ["label-config", *map(str, arguments)])


def print_config(*arguments):
    completed = run(*arguments)
    assert (completed.exit_code, completed.stderr) == (0, "")
    return completed.stdout


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "plans.jsonl"
    lines = [{"text": "모두다 요금제", "label": [[0, 3, "PLAN"]]}, {"text": "서울", "label": [[0, 2, "LC"]]}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_config_of_a_model_has_its_labels_and_colours(tmp_path):
    write_model(tmp_path, ["<서울:LC>의 <홍길동:PS>"])
    assert set(parse_label_config(print_config(tmp_path)).labels) == set(KLUE.types)
    assert '<Label value="LC" background="#1b6b3a" hint="장소" />' in print_config(tmp_path)
    (tmp_path / "labels.yaml").write_text('PS: {ko: 사람, color: "#123456"}\n', encoding="utf-8")
    assert '<Label value="PS" background="#123456" hint="사람" />' in print_config(tmp_path)


def test_the_config_of_a_corpus_has_its_labels_and_the_colours_beside_it(corpus):
    assert set(parse_label_config(print_config(corpus)).labels) == {"LC", "PLAN"}
    (corpus.parent / "labels.yaml").write_text('PLAN: {ko: 요금제, color: "#123456"}\n', encoding="utf-8")
    assert '<Label value="PLAN" background="#123456" hint="요금제" />' in print_config(corpus)


def test_the_corpora_that_are_included_have_a_config():
    assert '<Label value="PS" background="#a8321a" hint="인물" />' in print_config("sample")


def test_a_missing_default_model_is_no_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run().output == "koner: models/ner holds no model; run `dvc repro` or `dvc pull`\n"


def test_what_has_no_labels_is_reported_in_a_sentence(tmp_path, corpus):
    assert "koner: source: there is no file or folder" in run(tmp_path / "none").output
    corpus.write_text('{"text": "모두다 요금제", "label": []}\n', encoding="utf-8")
    assert run(corpus).output == f"koner: {corpus} has no entity, so it has no labels\n"
    corpus.write_text('{"text": "모두다", "label": [[0, 9, "PLAN"]]}\n', encoding="utf-8")
    assert "koner: plans.jsonl:1: plans-1: the entity at 0:9 (PLAN) is not within the text" in run(corpus).output
