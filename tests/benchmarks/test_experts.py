from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import experts
from benchmarks.expert_service import create_app
from benchmarks.usual_service import create_app as create_usual_app
from koner.errors import KonerError
from koner.export.onnx import export_onnx
from tests.inference.trained_model import LINES, write_trained_model

TEXTS = ["홍길동이 서울에서 3명을 만났다.", "정부는 지난해 부산에 갔다.", "서울", "아무도 오지 않았다. 경찰을 불렀다."]


@pytest.fixture(scope="module")
def model(root, tmp_path_factory):
    """A model folder that also holds an ONNX file in fp32."""
    _, folder, _ = write_trained_model(root, tmp_path_factory.mktemp("model"), LINES)
    export_onnx(folder, folder / "model.onnx", "fp32")
    return folder


def answer(app, text):
    response = app.test_client().post("/infer", json={"text": text})
    assert response.status_code == 200
    return [
        (entity["entity_group"], entity["start"], entity["end"], pytest.approx(entity["score"], abs=1e-4))
        for entity in response.json["result"]
    ]


def test_the_service_of_an_expert_answers_as_the_usual_one_in_any_company(model):
    app, usual = create_app(str(model), str(model / "model.onnx"), 1), create_usual_app(str(model))
    expected = [answer(usual, text) for text in TEXTS]
    assert len(expected[0]) == 3
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: answer(app, text), TEXTS * 10)) == expected * 10


def test_the_model_for_onnx_runtime_is_quantized_and_kept(model, tmp_path):
    experts.prepare("expert-onnxruntime", tmp_path, model, TEXTS)
    path = experts.model_path("expert-onnxruntime", tmp_path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    content = path.read_bytes()
    assert b"MatMulInteger" in content
    path.write_bytes(b"kept")
    experts.prepare("expert-onnxruntime", tmp_path, model, TEXTS)
    assert path.read_bytes() == b"kept"
    path.write_bytes(content)
    assert answer(create_app(str(model), str(path), 1), TEXTS[0])


def test_missing_packages_are_named_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(experts, "find_spec", lambda name: None)
    sentence = "expert-openvino needs packages that are not installed: pip install openvino nncf"
    assert experts.select(None) == ["expert-onnxruntime"]
    assert capsys.readouterr().out == f"{sentence}; it is left out\n"
    with pytest.raises(KonerError) as error:
        experts.select(["expert-onnxruntime", "expert-openvino"])
    assert str(error.value) == sentence


@pytest.mark.skipif(bool(experts.missing_packages("expert-openvino")), reason="openvino or nncf is not installed")
def test_the_model_for_openvino_answers_as_the_usual_one(model, tmp_path):
    experts.prepare("expert-openvino", tmp_path, model, TEXTS)
    app = create_app(str(model), str(experts.model_path("expert-openvino", tmp_path)), 1)
    assert [entity[:3] for entity in answer(app, TEXTS[0])] == [
        entity[:3] for entity in answer(create_usual_app(str(model)), TEXTS[0])
    ]
