import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from koner.errors import KonerError
from koner.labels.bio import IGNORE_INDEX, Entity, entities_to_bio
from koner.labels.klue import KLUE
from koner.pretraining import prepare
from koner.pretraining.packing import PackedDataset
from koner.pretraining.params import load_pretrain_params
from koner.pretraining.teacher import Teacher
from koner.pretraining.weak_labels import agreed_tag_ids, weak_tag_ids
from koner.text.morphemes import analyse
from tests.inference.table_model import write_model

TEXTS = ["부산에 홍길동이 갔다", "", "3명이 서울역으로 갔다"]


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()
    write_model(folder, ["<홍길동:PS>", "<서울:LC>역", "<3명:OG>"])
    return folder


def ids(length, *entities):
    return [KLUE.tag_to_id[tag] for tag in entities_to_bio([Entity(*entity) for entity in entities], length)]


def test_the_teacher_gives_a_tag_to_each_character(model):
    tags = Teacher(model).tag_ids(TEXTS)
    assert [list(row) for row in tags] == [
        ids(len(TEXTS[0]), (4, 7, "PS")),
        [],
        ids(len(TEXTS[2]), (0, 2, "OG"), (4, 6, "LC")),
    ]
    assert {row.dtype for row in tags} == {np.dtype(np.int8)}


def test_a_teacher_with_other_labels_is_refused(model):
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {i: tag.replace("TI", "TIME") for i, tag in config["id2label"].items()}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(KonerError, match="teacher are DT, LC, OG, PS, QT, TIME; expected DT, LC"):
        Teacher(model)


def test_an_empty_folder_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(KonerError, match=r"^weak_teacher: .* holds no model; copy the files of an exported model"):
        Teacher(tmp_path)


def test_a_teacher_decides_in_doubt_and_contradictions_are_ignored():
    rules = np.array([0, 1, 12, IGNORE_INDEX, 12], np.int8)
    teacher = np.array([0, 2, 12, 12, 0], np.int8)
    agreed = agreed_tag_ids(rules, teacher)
    assert list(agreed) == [0, IGNORE_INDEX, 12, 12, IGNORE_INDEX]
    assert agreed.dtype == np.int8


def test_packs_hold_the_agreed_labels(root, model, tmp_path):
    lines = TEXTS[::2] * 40
    (tmp_path / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    changes = {"texts": [str(tmp_path / "texts.txt")], "repeats": [1], "length": 32, "held_out": 4}
    params = load_pretrain_params(root / "stages/pretrain/params.yaml").model_copy(update=changes)
    tokenizer = AutoTokenizer.from_pretrained(root / "koner/resources/koner_mini")
    teacher = Teacher(model).tag_ids
    found = {}
    for name, labeller in (("rules", None), ("both", teacher)):
        folder = tmp_path / name
        prepare.prepare_packs(params, tokenizer, folder, labeller)
        fields = PackedDataset(folder / "train", 32).fields
        found[name] = set(fields["weak_labels"].ravel().tolist())
    # The teacher does not call 부산 a place, and 3명 an organization.
    by_rules = [weak_tag_ids(text) for text in analyse(lines[:2])]
    agreed = [agreed_tag_ids(*pair) for pair in zip(by_rules, teacher(lines[:2]), strict=True)]
    assert {KLUE.tag_to_id[tag] for tag in ("B-LC", "B-PS", "B-QT")} <= set(np.concatenate(by_rules).tolist())
    assert found["both"] <= {IGNORE_INDEX, *np.concatenate(agreed).tolist()}
    assert KLUE.tag_to_id["B-PS"] in found["both"]
    assert not {KLUE.tag_to_id[tag] for tag in ("B-OG", "B-QT")} & found["both"]
    assert KLUE.tag_to_id["B-LC"] in found["rules"]
