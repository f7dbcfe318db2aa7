import json
import re

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from koner.errors import KonerError
from koner.evaluation.protocols import PROTOCOLS
from koner.labels.klue import KLUE
from koner.labels.styles import read_styles
from koner.params import load_params
from koner.report.model_card import write_card
from koner.resources import RECIPES
from koner.validation import read_yaml

REVISION = "0123456789abcdef0123456789abcdef01234567"
SPLIT = {
    "sentences": {"train": 3889, "development": 431, "test": 480},
    "removed": {"of_test": 2, "of_development": 5},
    "entities": {"train": {"DT": 1427, "LC": 1032, "OG": 1364, "PS": 2811, "QT": 2000, "TI": 369}},
}
TRAINING = {"best_epoch": 6, "epochs": 7, "best": {"f1": 0.8642}, "sentences": {"written": 3889, "substituted": 7778}}


@pytest.fixture
def evaluation():
    return {
        "sentences": 480,
        "entities": 1357,
        "wordpiece": {"precision": 0.8123, "recall": 0.791, "f1": 0.801512, "accuracy": 0.951234, "by_type": {}},
        "klue": {"entity_f1": 0.7712, "char_f1": 0.8413},
        "span": {
            "precision": 0.7821,
            "recall": 0.7634,
            "f1": 0.772637,
            "macro_f1": 0.7519,
            "by_type": {
                type_: {"precision": 0.5 + i / 100, "recall": 0.6 + i / 100, "f1": 0.7 + i / 100, "gold": 11 + i}
                for i, type_ in enumerate(KLUE.types)
            },
        },
        "intervals": {"span.f1": {"low": 0.751234, "high": 0.794321}, "klue.char_f1": {"low": 0.82, "high": 0.86}},
        "calibration": {"temperature": 1.75, "expected_calibration_error": {"before": 0.0912, "after": 0.0213}},
    }


def recipe(root, name, **changed):
    values = read_yaml(RECIPES / f"{name}.yaml")
    return {**load_params(root / "params.yaml").model_dump(), "recipe": name, **values, **changed}


def write(folder, params, evaluation, split=SPLIT, training=TRAINING):
    """Write a card, and return its metadata and its text."""
    write_card(
        folder, styles=read_styles(None, KLUE), params=params, evaluation=evaluation, split=split, training=training
    )
    path = folder / "README.md"
    return metadata_load(path), ModelCard.load(path).text


def row(text, start):
    """Return the cells of the only table row that starts with a text."""
    rows = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    assert len(rows) == 1
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


def test_the_metadata_of_the_sample_recipe(root, tmp_path, evaluation):
    metadata, _ = write(tmp_path, recipe(root, "sample"), evaluation)
    index = metadata.pop("model-index")
    assert metadata == {
        "language": "ko",
        "license": "cc-by-sa-4.0",
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "tags": ["named-entity-recognition", "ner", "korean", "koner"],
        "metrics": ["accuracy", "f1", "precision", "recall"],
    }
    assert [result["dataset"] for result in index[0]["results"]] == [
        {"name": "koner sample corpus", "type": "koner-sample-corpus", "split": "validation"}
    ]


def test_the_included_base_model_is_named(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "sample"), evaluation)
    assert "**Base model:** koner-mini, a RoBERTa of 4 layers" in text


def test_the_metadata_of_the_klue_recipe(root, tmp_path, evaluation):
    params = recipe(root, "klue", source_revision=REVISION)
    metadata, text = write(tmp_path, params, evaluation)
    assert metadata["license"] == "cc-by-sa-4.0"
    assert metadata["datasets"] == ["klue/klue"]
    assert metadata["base_model"] == "klue/roberta-base"
    assert metadata["base_model_relation"] == "finetune"
    assert [result["dataset"] for result in metadata["model-index"][0]["results"]] == [
        {"name": "KLUE-NER", "type": "klue/klue", "config": "ner", "split": "validation", "revision": REVISION}
    ]
    assert f"film reviews (NSMC), revision `{REVISION}`." in text
    assert f"https://huggingface.co/klue/roberta-base), revision `{params['base_model_revision']}`." in text


@pytest.mark.parametrize("name", ["sample", "klue"])
def test_the_index_holds_the_exact_figures_and_can_be_parsed(root, tmp_path, evaluation, name):
    metadata, _ = write(tmp_path, recipe(root, name), evaluation)
    model, results = model_index_to_eval_results(metadata["model-index"])
    assert model == "koner"
    assert [(r.metric_type[:2], r.metric_value) for r in results] == [
        *(("pr", 0.7821), ("re", 0.7634), ("f1", 0.772637), ("f1", 0.7519)),
        *(("pr", 0.8123), ("re", 0.791), ("f1", 0.801512), ("ac", 0.951234)),
        *(("f1", 0.7712), ("f1", 0.8413)),
    ]
    assert len({r.metric_name for r in results}) == 10
    assert {(r.task_type, r.verified) for r in results} == {("token-classification", None)}
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == metadata
    assert str(card) == (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [0.0, 1.0, 1, 1e-05, 0.1 + 0.2, 1 / 3])
def test_every_figure_is_parsed_as_the_same_number(root, tmp_path, value):
    metadata, text = write(tmp_path, recipe(root, "sample"), {"span": {"f1": value}})
    assert [m["value"] for m in metadata["model-index"][0]["results"][0]["metrics"]] == [value]
    assert row(text, "**exact spans**")[3] == f"{value:.4f}"


def test_the_protocols_show_their_figures_with_intervals(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "sample"), evaluation)
    assert "480 sentences with 1,357 entities" in text
    assert row(text, "**exact spans**")[1:] == ["0.7821", "0.7634", "0.7726", "0.7512 to 0.7943"]
    assert row(text, "exact spans: mean")[1:] == ["–", "–", "0.7519", "–"]
    assert row(text, "tokens:")[1:] == ["0.8123", "0.7910", "0.8015", "–"]
    assert row(text, "KLUE's reference code, entities")[1:] == ["–", "–", "0.7712", "–"]
    assert row(text, "KLUE's reference code, characters")[1:] == ["–", "–", "0.8413", "0.8200 to 0.8600"]
    assert "Token accuracy is 0.9512" in text


def test_the_types_show_their_figures_and_counts(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "sample"), evaluation)
    table = text.partition("By type, exact spans:")[2]
    assert row(table, "DT") == ["DT", "0.5000", "0.6000", "0.7000", "11", "1,427"]
    assert row(table, "PS") == ["PS", "0.5300", "0.6300", "0.7300", "14", "2,811"]
    assert row(table, "TI") == ["TI", "0.5500", "0.6500", "0.7500", "16", "369"]


def test_training_and_calibration_are_reported(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "sample"), evaluation)
    assert "train 3,889, development 431, test 480; 7 that also occur in an evaluation part" in text
    assert "7,778 additional training sentences" in text
    assert "6 of 7, by token F1 on development (0.8642)" in text
    assert "temperature 1.75" in text
    assert "ten bins: 0.0213, against 0.0912 at temperature 1." in text


def test_the_parameters_are_those_that_had_an_effect(root, tmp_path, evaluation):
    def parameters(**changed):
        _, text = write(tmp_path, recipe(root, changed.pop("name"), **changed), evaluation)
        return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text.partition("| parameter |")[2], re.M))

    sample = parameters(name="sample", lr=2e-05, base_model="scratch")
    assert sample.keys() >= {"vocab_min_count", "layers", "hidden_size", "heads", "development_share"}
    assert (sample["source"], sample["base_model"], sample["tokenizer"]) == ("koner sample corpus", "scratch", "own")
    assert (sample["lr"], sample["layers"], sample["batching"]) == ("2e-05", "3", "packed")
    klue = parameters(name="klue", protocol="official")
    assert (klue["source"], klue["base_model"], klue["max_length"]) == ("klue/klue", "klue/roberta-base", "512")
    assert not klue.keys() & {"tokenizer", "vocab_min_count", "layers", "hidden_size", "heads", "development_share"}


def test_the_text_on_the_test_part_depends_on_the_protocol(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "klue"), evaluation)
    assert "The epoch was selected on other sentences" in text
    assert "which is also the test part here" not in text
    _, text = write(tmp_path, recipe(root, "klue", protocol="official"), evaluation)
    assert "that part also selected the epoch" in text
    assert "which is also the test part here" in text
    assert "The epoch was selected on other sentences" not in text


@pytest.mark.parametrize(
    ("changed", "licence", "sentence"),
    [
        ({"base_model": "klue/roberta-base"}, "cc-by-sa-4.0", "like the data and models of KLUE, and koner-mini."),
        ({"source": "klue/klue"}, "cc-by-sa-4.0", "like the data and models of KLUE, and koner-mini."),
        ({}, "cc-by-sa-4.0", "like the data and models of KLUE, and koner-mini."),
        ({"base_model": "scratch"}, "cc-by-4.0", "like the corpus that the model"),
        ({"source": "/corpus", "base_model": "scratch"}, "other", "follows that of the training data,"),
        ({"source": "/corpus", "base_model": "/model"}, "other", "of the training data and the base model,"),
        ({"tokenizer": "/tokenizer", "base_model": "scratch"}, "other", "follows that of the tokenizer,"),
        ({"base_model": "owner/model", "base_model_revision": REVISION}, "other", "follows that of the base model,"),
        ({"source": "/corpus", "base_model": "klue/roberta-base"}, "cc-by-sa-4.0", "terms of the training data apply"),
    ],
)
def test_the_licence_follows_from_the_parts_of_the_model(root, tmp_path, evaluation, changed, licence, sentence):
    metadata, text = write(tmp_path, recipe(root, "sample", **changed), evaluation)
    assert metadata["license"] == licence
    assert sentence in text


@pytest.mark.parametrize("absolute", [True, False])
def test_the_card_has_no_local_path(root, tmp_path, monkeypatch, evaluation, absolute):
    monkeypatch.chdir(tmp_path)
    # These relative paths look like hub ids, and the revision may come from another recipe.
    names = {"source": "mine/corpus", "watch": "mine/corpus", "base_model": "mine/encoder", "tokenizer": "mine/pieces"}
    for name in names.values():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    if absolute:
        names = {key: str(tmp_path / name) for key, name in names.items()}
    for base in (names["base_model"], "scratch"):
        local = {"recipe": "/secret/recipe", "source_config": "mine-config", "base_model": base}
        params = {**recipe(root, "klue"), **names, **local}
        metadata, text = write(tmp_path, params, evaluation)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert not [word for word in ("mine", str(tmp_path), "secret", params["source_revision"]) if word in card]
        assert not metadata.keys() & {"datasets", "base_model", "base_model_relation"}
        dataset = {"name": "local", "type": "local", "split": "validation"}
        assert metadata["model-index"][0]["results"][0]["dataset"] == dataset
        assert "a local corpus" in text


def test_a_folder_that_was_moved_is_not_taken_for_a_hub_id(root, tmp_path, evaluation):
    write(tmp_path, recipe(root, "sample", source="mine/corpus"), evaluation)
    assert "mine" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_another_hub_dataset_is_named_with_its_revision(root, tmp_path, evaluation):
    params = recipe(root, "sample", source="owner/corpus", source_revision=REVISION, source_config="all")
    metadata, text = write(tmp_path, params, evaluation)
    assert metadata["datasets"] == ["owner/corpus"]
    assert metadata["model-index"][0]["results"][0]["dataset"]["revision"] == REVISION
    assert f"https://huggingface.co/datasets/owner/corpus), revision `{REVISION}`." in text


def paths_in(tree, path=()):
    """Yield the path of every key of nested dictionaries."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths_in(value, (*path, key))


def without(tree, path):
    return {
        key: without(value, path[1:]) if path[0] == key and len(path) > 1 else value
        for key, value in tree.items()
        if path != (key,)
    }


def test_missing_metrics_are_left_out(root, tmp_path, evaluation):
    params = recipe(root, "sample")
    evaluation["span"]["by_type"] = {"PS": evaluation["span"]["by_type"]["PS"]}
    whole = {"evaluation": evaluation, "split": SPLIT, "training": TRAINING}
    for path in paths_in(whole):
        metrics = without(whole, path) if len(path) > 1 else {**whole, path[0]: {}}
        metadata, text = write(tmp_path, params, **metrics)
        assert "None" not in text, path
        results = model_index_to_eval_results(metadata["model-index"])[1] if "model-index" in metadata else []
        keys = [[protocol.name, figure.key] for protocol in PROTOCOLS for figure in protocol.figures]
        remaining = [key for key in keys if path != ("evaluation", *key)[: len(path)]]
        assert len(results) == len(remaining), path


def test_without_any_figure_the_card_has_no_index(root, tmp_path):
    metadata, text = write(tmp_path, recipe(root, "klue"), {}, {}, {})
    assert not metadata.keys() & {"model-index", "metrics", "model_name", "eval_results"}
    assert metadata["base_model"] == "klue/roberta-base"
    assert "This run has no figures." in text
    assert "By type" not in text


@pytest.mark.parametrize("value", [None, float("nan"), "0.5", {}])
def test_a_value_that_is_not_a_finite_number_is_left_out(root, tmp_path, value):
    metadata, _ = write(tmp_path, recipe(root, "sample"), {"span": {"f1": value}, "intervals": None})
    assert "model-index" not in metadata


def test_the_card_is_well_formed_markdown(root, tmp_path, evaluation):
    for name in ("sample", "klue"):
        _, text = write(tmp_path, recipe(root, name), evaluation)
        assert not re.search(r"\{[{%]|[%}]\}|None|\n\n\n", text)
        assert text.endswith(".\n")
        assert text.count("```") % 2 == 0
        tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M)]
        assert len(tables) == 4
        for table in tables:
            assert len({line.count("|") for line in table}) == 1


def test_the_python_in_the_card_compiles(root, tmp_path, evaluation):
    _, text = write(tmp_path, recipe(root, "sample"), evaluation)
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "card", "exec")
    body = re.search(r"-d '(.*?)'", text)[1]
    assert json.loads(body).keys() == {"text"}


def test_the_same_metrics_give_the_same_card(root, tmp_path, evaluation):
    params = recipe(root, "sample")
    slower = {**TRAINING, "runtime_seconds": 812.5}
    assert write(tmp_path / "a", params, evaluation) == write(tmp_path / "b", params, evaluation, training=slower)


def test_invalid_parameters_are_reported_by_name(root, tmp_path, evaluation):
    params = recipe(root, "sample")
    del params["base_model"]
    with pytest.raises(KonerError, match="base_model is missing"):
        write(tmp_path, params, evaluation)
    assert not (tmp_path / "README.md").exists()
