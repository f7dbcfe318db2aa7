import json
import shutil

import pytest

from koner.errors import KonerError
from koner.export.acceptance import compare_predictions
from koner.export.exporter import export
from koner.export.onnx import export_onnx
from koner.export.temperature import fit_temperature
from koner.inference.predictions import predict
from koner.inference.tagger import Tagger
from koner.labels.klue import KLUE
from tests.inference.trained_model import LINES, write_trained_model


def write_model(root, folder, outlier=0.0):
    """Write a model; return its folder, and the lines that it is exact on as its parts and as samples."""
    _, trained, development = write_trained_model(root, folder, LINES * 5, outlier)
    return trained, {"development": development, "test": development[:8]}, development


@pytest.fixture(scope="module")
def ordinary(root, tmp_path_factory):
    return write_model(root, tmp_path_factory.mktemp("ordinary"))


@pytest.fixture(scope="module")
def spiky(root, tmp_path_factory):
    return write_model(root, tmp_path_factory.mktemp("spiky"), outlier=20.0)


@pytest.fixture(scope="module")
def served(ordinary, tmp_path_factory):
    """The folder of the ordinary model as `auto` exports it, and the metrics."""
    folder = tmp_path_factory.mktemp("served") / "exported"
    return folder, export(*ordinary, folder, "auto")


def test_auto_selects_int8_if_it_predicts_the_same_entities(served):
    folder, metrics = served
    assert metrics["precision"] == "int8"
    assert metrics["refused"] == {}
    tagger = Tagger.load(folder, "cpu", 1)
    assert tagger.runtime.description == "ONNX Runtime int8, 1 thread"
    assert [(e.start, e.end, e.label) for e in tagger.tag("홍길동이 서울에서")] == [(0, 3, "PS"), (5, 7, "LC")]


def test_the_metrics_compare_the_exported_with_the_trained_model(served):
    folder, metrics = served
    assert metrics["from_trained"]["test"] == {
        "span_f1": {"trained": 1.0, "exported": 1.0},
        "points": 0.0,
        "interval": {"low": 0.0, "high": 0.0},
        "p_value": 1.0,
        "sentences": 8,
        "entities_differ": 0,
        "sentences_differ": 0,
    }
    assert metrics["megabytes"] == {
        "trained": (folder / "model.safetensors").stat().st_size / 1e6,
        "exported": (folder / "model.onnx").stat().st_size / 1e6,
    }


def test_the_temperature_is_fitted_to_noisy_sentences_if_the_parameter_says_so(ordinary, served, tmp_path):
    trained, parts, samples = ordinary
    metrics = export(trained, parts, samples, tmp_path / "noisy", "auto", calibration_noise=0.3)
    tagger = Tagger.load(tmp_path / "noisy", "cpu")
    assert metrics["temperature"] == tagger.settings.temperature == fit_temperature(tagger, parts["development"], 0.3)
    assert metrics["temperature"] != served[1]["temperature"]


def test_the_temperature_is_fitted_to_the_exported_model(ordinary, served):
    folder, metrics = served
    assert metrics["temperature"] == fit_temperature(Tagger.load(folder, "cpu"), ordinary[1]["development"]) != 1
    assert Tagger.load(folder, "cpu").settings.temperature == metrics["temperature"]


def test_the_folder_holds_the_trained_model_and_the_onnx_file(ordinary, served):
    folder, metrics = served
    assert {p.name for p in folder.iterdir()} == {p.name for p in ordinary[0].iterdir()} | {"model.onnx"}
    for path in ordinary[0].iterdir():
        if path.name != "config.json":
            assert (folder / path.name).read_bytes() == path.read_bytes()
    before, after = (json.loads((f / "config.json").read_text()) for f in (ordinary[0], folder))
    settings = {"temperature": metrics["temperature"], "legal": True}
    assert after == before | {f"koner_{name}": value for name, value in settings.items()}


def test_fp32_is_exported_on_request(ordinary, tmp_path):
    metrics = export(*ordinary, tmp_path / "exported", "fp32")
    assert metrics["precision"] == "fp32"
    assert Tagger.load(tmp_path / "exported", "cpu", 1).runtime.description == "ONNX Runtime fp32, 1 thread"


def test_auto_falls_back_to_fp32_if_int8_predicts_other_entities(spiky, tmp_path):
    metrics = export(*spiky, tmp_path / "exported", "auto")
    assert metrics["precision"] == "fp32"
    assert metrics["from_trained"]["development"]["points"] == 0
    assert set(metrics["refused"]) == {"int8", "int8-dynamic"}
    for changes in metrics["refused"].values():
        assert changes["development"]["points"] < -10
        assert changes["development"]["entities_differ"] > 5
    served = Tagger.load(tmp_path / "exported", "cpu", 1)
    assert served.runtime.description == "ONNX Runtime fp32, 1 thread"
    # The scores are calibrated for fp32, not for the refused int8.
    assert served.settings.temperature == fit_temperature(served, spiky[1]["development"])
    test = spiky[1]["test"]
    change = compare_predictions(predict(Tagger.load(spiky[0], "cpu"), test), predict(served, test), KLUE)
    assert change == metrics["from_trained"]["test"]


def test_auto_selects_int8_if_its_loss_may_be_noise(root, tmp_path):
    # With this outlier, int8 predicts other entities in some of the lines.
    trained, parts, samples = write_model(root, tmp_path, outlier=6.0)
    shutil.copytree(trained, tmp_path / "int8")
    windows = [window.input_ids for sample in samples for window in sample.windowed_text.windows]
    export_onnx(trained, tmp_path / "int8/model.onnx", "int8", windows)
    lines = parts["development"][:3]
    predictions = zip(
        *(predict(Tagger.load(folder, "cpu"), lines) for folder in (trained, tmp_path / "int8")), strict=True
    )
    differs = [a.predicted != b.predicted for a, b in predictions]
    same, other = lines[differs.index(False)], lines[differs.index(True)]
    metrics = export(trained, {"development": [same] * 120 + [other]}, samples, tmp_path / "exported", "auto")
    assert metrics["precision"] == "int8"
    change = metrics["from_trained"]["development"]
    assert -0.3 <= change["points"] < -0.1
    assert change["p_value"] > 0.05
    assert (change["sentences"], change["sentences_differ"]) == (121, 1)


def test_int8_is_refused_if_it_predicts_other_entities(spiky, tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "before").touch()
    with pytest.raises(
        KonerError,
        match=r"^serve_precision: int8-dynamic lowers span F1, in points: development -[\d.]+ \(95% interval .* "
        r"p 0\.\d+, 20 sentences\); test .* a loss of at most 0\.1 points is accepted, .* set auto or fp32$",
    ):
        export(*spiky, tmp_path / "exported", "int8")
    # The folder is unchanged, and no draft is left.
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["exported", "exported/before"]
