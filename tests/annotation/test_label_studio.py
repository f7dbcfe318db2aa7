"""Labelling configurations, and tasks with predictions."""

import json

import pytest

from koner.annotation.label_studio import (
    Control,
    parse_label_config,
    prediction,
    task,
    task_with_predictions,
    write_label_config,
)
from koner.corpus.sources import read_checked, read_source
from koner.errors import KonerError
from koner.inference.decoding import ScoredEntity
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.label_set import LabelSet
from koner.labels.styles import read_styles

TEXT = "😀 홍길동은 서울에 갔다."
ENTITIES = [ScoredEntity(2, 5, "PS", 0.9), ScoredEntity(7, 9, "LC", 0.8123456789)]


def test_the_config_of_a_label_set_is_read_back():
    config = write_label_config(read_styles(None, KLUE))
    assert '<Label value="PS" background="#a8321a" hint="인물" />' in config
    control = parse_label_config(config)
    assert (control.name, control.to_name, control.field) == ("label", "text", "text")
    assert set(control.labels) == set(KLUE.types)


def test_labels_of_any_characters_are_read_back():
    labels = LabelSet(("인명", 'A&"B', "5G'X"))
    control = Control("ner", "sentence", "body", labels.types)
    assert parse_label_config(write_label_config(read_styles(None, labels), control)) == control


def test_a_config_may_have_other_tags_names_and_aliases():
    config = """<view><Choices name="c" toName="t"><Choice value="a"/></Choices>
        <Labels name="other" toName="image"><Label value="no"/></Labels>
        <!-- ours --><labels name="ner" toName="u, t"><Label value="사람" alias="PS"/><Label value="LC"/></labels>
        <Image name="image" value="$img"/><Text name="header" value="Read"/><Text name="t" value="$body"/></view>"""
    assert parse_label_config(config) == Control("ner", "t", "body", ("PS", "LC"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "the labelling config is not valid XML: no element found"),
        ("<View><Labels></View>", "the labelling config is not valid XML: mismatched tag"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/passwd">]><View>&x;</View>', "it has a document type declaration"),
        ("<View><Labels name='l' toName='t'/></View>", "the labelling config has no text tag"),
        ("<View><Text name='t' value='$x'/></View>", "no <Labels> whose toName is the name of its text tag, 't'"),
        (
            "<View><Labels name='l' toName='u'/><Text name='t' value='$x'/></View>",
            "no <Labels> whose toName is the name of its text tag, 't'",
        ),
        (
            "<View><Labels name='l' toName='t'/><Text name='t' value='$x' valueType='url'/></View>",
            "the text tag 't' of the labelling config must have the text itself, not its URL",
        ),
    ],
)
def test_a_config_without_the_tags_is_refused_in_a_sentence(config, sentence):
    with pytest.raises(KonerError) as raised:
        parse_label_config(config)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_entities_of_xml_are_not_expanded():
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><View><Text name="t" value="$&b;"/></View>'
    with pytest.raises(KonerError, match="document type declaration"):
        parse_label_config(bomb)
    with pytest.raises(KonerError, match="not valid XML"):
        parse_label_config("<a>" * 200_000)


def test_a_task_has_the_entities_in_code_points():
    made = task(TEXT, ENTITIES, model_version="koner-1", data={"id": "a"})
    assert made["data"] == {"id": "a", "text": TEXT}
    (of_model,) = made["predictions"]
    assert (of_model["model_version"], of_model["score"]) == ("koner-1", 0.812346)
    assert of_model["result"][0] == {
        "id": "e0",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {"start": 2, "end": 5, "text": "홍길동", "labels": ["PS"]},
        "score": 0.9,
    }


def test_a_task_follows_the_control():
    control = Control("ner", "sentence", "body", ("LC",))
    made = task(TEXT, ENTITIES, model_version="m", control=control, score=0.25)
    assert made["data"] == {"body": TEXT}
    (of_model,) = made["predictions"]
    assert of_model["score"] == 0.25
    assert [(r["from_name"], r["to_name"], r["value"]["labels"]) for r in of_model["result"]] == [
        ("ner", "sentence", ["LC"])
    ]


def test_a_task_may_have_several_predictions_and_entities_without_scores():
    gold = prediction(TEXT, [Entity(2, 5, "PS")], model_version="A")
    assert gold["score"] is None
    assert "score" not in gold["result"][0]
    made = task_with_predictions(TEXT, [gold, prediction(TEXT, [], model_version="B")])
    assert [(p["model_version"], len(p["result"])) for p in made["predictions"]] == [("A", 1), ("B", 0)]


def test_accepted_predictions_are_read_as_annotations(tmp_path):
    """An annotator who accepts a prediction makes an annotation with its result."""
    made = task(TEXT, ENTITIES, model_version="m")
    exported = {"data": made["data"], "annotations": [{"id": 1, "result": made["predictions"][0]["result"]}]}
    path = tmp_path / "train.json"
    path.write_text(json.dumps([exported]), encoding="utf-8")
    (sentence,) = read_checked(read_source(str(path), "ner", None))["train"]
    assert [(e.start, e.end, e.label) for e in sentence.entities] == [(2, 5, "PS"), (7, 9, "LC")]
