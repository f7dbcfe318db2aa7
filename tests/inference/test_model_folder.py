"""Model folders from anybody: each fault is told in one sentence that names the file and the field."""

import json
import os

import onnx
import pytest

from koner.errors import KonerError
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from tests.app.gunicorn_service import write_model

LABELS = {str(i): tag for i, tag in KLUE.id_to_tag.items()}


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "ner", seed=1)
    return tmp_path / "ner"


def error_of(folder):
    with pytest.raises(KonerError) as error:
        Tagger.load(folder, "cpu", 1)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{folder}")


def change(path, **changes):
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, 1e-320, "1.5", True, None, [1], 10**400])
def test_a_temperature_that_is_no_positive_number_is_refused(folder, value):
    change(folder / "config.json", koner_temperature=value)
    message = error_of(folder)
    assert message.startswith("/config.json: koner_temperature: ")
    assert message.endswith(" is not allowed; it must be a number from 0.01 to 100")
    assert len(message) < 250


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id2label": {}}, "id2label must number the labels from 0 without gaps"),
        ({"id2label": {k: v for k, v in LABELS.items() if k != "5"}}, "id2label must number the labels from 0 without"),
        ({"id2label": {f"x{k}": v for k, v in LABELS.items()}}, "id2label must number the labels from 0 without gaps"),
        ({"id2label": {**LABELS, "0": "PERSON"}}, "id2label: the model's label 'PERSON' is not O, B-TYPE or I-TYPE"),
        ({"id2label": {**LABELS, "0": "B-" + "X" * 10**6}}, "id2label: the model's label 'B-XXXX"),
        ({"id2label": {**LABELS, "13": "O"}}, "id2label has the label 'O' more than once"),
        ({"id2label": {"0": "O", "1": "I-PS"}}, "id2label lacks the label 'B-PS', so its labels are not BIO"),
        ({"id2label": {"0": "B-PS"}}, "id2label lacks the label 'O', so its labels are not BIO"),
        (
            {"id2label": {"0": "O", "1": "B-PS"}},
            "id2label has 2 labels, and the model computes logits of the shape (13,)",
        ),
        ({"id2label": list(LABELS.values())}, "id2label: ['B-DT', "),
        ({"id2label": {**LABELS, "0": 5}}, "id2label: {"),
        ({"id2label": None}, "id2label: None is not allowed; it must be an object of labels by number"),
        ({"koner_legal": "false"}, "koner_legal: 'false' is not allowed; it must be true or false"),
        ({"pad_token_id": -1}, "pad_token_id: -1 is not allowed; it must be a whole number from 0 to "),
        ({"pad_token_id": "x"}, "pad_token_id: 'x' is not allowed"),
        ({"max_position_embeddings": 5.5}, "max_position_embeddings: 5.5 is not allowed"),
        ({"max_position_embeddings": "512"}, "max_position_embeddings: '512' is not allowed"),
        ({"model_type": ["bert"]}, "model_type: ['bert'] is not allowed; it must be the name of an architecture"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id is missing; the positions of roberta"),
        ({"koner_outside_bias": "9" * 10**6}, "koner_outside_bias is 9999"),
    ],
)
def test_a_field_of_the_configuration_that_is_not_valid_is_named(folder, changes, sentence):
    change(folder / "config.json", **changes)
    message = error_of(folder)
    assert message.replace(": ", " ", 1).startswith(f"/config.json {sentence}")
    assert len(message) < 400


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocab_size": 5}, "/tokenizer.json has a token of number 15, and the model embeds only 5 tokens (vocab_size"),
        ({"pad_token_id": 10**9}, ": the model can't run the token of number 15 of tokenizer.json: "),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": -1}, None),
    ],
)
def test_a_configuration_that_does_not_fit_the_model_is_refused(folder, changes, sentence):
    change(folder / "config.json", **changes)
    if sentence:
        assert error_of(folder).startswith(sentence)
    else:
        assert Tagger.load(folder, "cpu", 1).tag("가 나")


@pytest.mark.parametrize("limit", ["long", float("nan"), float("inf"), -4, 0, [5]])
def test_a_maximal_length_that_is_no_number_is_refused(folder, limit):
    change(folder / "tokenizer_config.json", model_max_length=limit)
    message = error_of(folder)
    assert message.startswith("/tokenizer_config.json: model_max_length: ")
    assert message.endswith(" is not allowed; it must be a number from 1 to 1e+31")


def test_windows_that_are_too_short_are_refused(folder):
    change(folder / "config.json", model_type="roberta", max_position_embeddings=2)
    assert error_of(folder).startswith(": windows of 0 tokens are too short (max_position_embeddings in config.json, ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 50_000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_a_file_that_is_no_json_object_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    assert error_of(folder).startswith((f"/{name} can't be read as JSON: ", f"/{name} holds no JSON object"))


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, bytes(range(256))])
def test_a_file_that_is_no_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_bytes(content)
    assert error_of(folder).startswith("/tokenizer.json can't be read as a tokenizer: ")


@pytest.mark.parametrize(
    ("name", "limit"), [("config.json", 8), ("tokenizer_config.json", 8), ("tokenizer.json", 128), ("vocab.txt", 128)]
)
def test_a_file_of_a_gigabyte_is_refused_before_it_is_read(folder, name, limit):
    if name == "vocab.txt":
        (folder / "tokenizer.json").unlink()
    with open(folder / name, "wb") as file:
        file.truncate(2**30)
    assert error_of(folder) == f"/{name} has more than the {limit * 2**20:,} bytes that are read of such a file"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json", "model.onnx"])
@pytest.mark.parametrize(
    ("make", "sentence"), [(os.mkfifo, "is not a regular file"), (os.mkdir, "can't be read: Is a")]
)
def test_what_is_no_file_is_refused_without_waiting_for_content(folder, name, make, sentence):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    assert error_of(folder).startswith(f"/{name} {sentence}")


def test_a_tokenizer_of_another_model_is_refused(folder):
    # 16 tokens, as the model has rows, but with other numbers.
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["가"] = 400
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert error_of(folder).startswith(": the model can't run ")


def test_a_tokenizer_that_fails_on_unknown_characters_is_refused(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"] |= {"unk_token": "nothing"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert error_of(folder).startswith("/tokenizer.json can't encode a text: ")


def edit_onnx(folder, edit):
    model = onnx.load(folder / "model.onnx")
    edit(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def make_external(model, location):
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(location))
    return data


@pytest.mark.parametrize("place", ["../outside", "/absolute", "link"])
def test_onnx_data_outside_of_the_folder_is_refused(folder, place):
    outside = folder.parent / "outside"
    location = {"/absolute": outside, "link": "weights"}.get(place, place)
    edit_onnx(folder, lambda model: outside.write_bytes(make_external(model, location)))
    if place == "link":
        (folder / "weights").symlink_to(outside)
    assert error_of(folder).startswith("/model.onnx can't be read as an ONNX model: ")


def test_onnx_data_in_the_folder_is_read(folder):
    edit_onnx(folder, lambda model: (folder / "weights").write_bytes(make_external(model, "weights")))
    assert Tagger.load(folder, "cpu", 1).tag("가 나")


def test_a_custom_operator_is_refused(folder):
    def edit(model):
        model.graph.node[0].domain = "custom"
        model.opset_import.add(domain="custom", version=1)

    edit_onnx(folder, edit)
    assert error_of(folder).startswith("/model.onnx can't be read as an ONNX model: ")


def test_weights_that_are_not_finite_are_refused(folder):
    def edit(model):
        table = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
        table[:] = float("nan")
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, "table"))

    edit_onnx(folder, edit)
    assert error_of(folder).startswith(": the weights are damaged: the logits of a text are not finite numbers")


def test_a_model_with_shorter_windows_than_it_promises_is_refused(folder):
    def edit(model):
        for value in model.graph.input:
            value.type.tensor_type.shape.dim[1].dim_value = 7

    edit_onnx(folder, edit)
    assert error_of(folder).startswith(": the model can't run ")


def test_a_folder_without_weights_or_model_is_refused(folder, tmp_path):
    (folder / "model.onnx").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    assert error_of(folder) == " can't be read as a model: it has no model.safetensors"
    (folder / "config.json").unlink()
    assert error_of(folder) == " holds no model; run `dvc repro` or `dvc pull`"
