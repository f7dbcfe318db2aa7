import json

import pytest
import torch
from transformers import AutoTokenizer

from koner.alignment import retag
from koner.base_model import prepare_base_model
from koner.calibration import fit_temperature
from koner.corpus import RawSentence, check
from koner.errors import KonerError
from koner.export import difference, export
from koner.labels import TAGS, Entity
from koner.params import load_params
from koner.predictions import Prediction, predict
from koner.tagger import ScoredEntity, Tagger
from koner.training import build_model

LINES = [
    "<홍길동:PS>이 <서울:LC>에서 <3명:QT>을 만났다.",
    "<정부:OG>는 <지난해:DT> <부산:LC>에 갔다.",
    "<김철수:PS>가 <오후 2시:TI>에 <경찰:OG>을 불렀다.",
    "아무도 오지 않았다.",
]


def trained(root, folder, outlier=0.0):
    """A model that gives each token the tag it has in LINES, its head solved for, and LINES as its development part.

    `outlier` is added to one unit of every word embedding, which floats can take and eight bits can't: they leave
    nothing of the other units.
    """
    changes = {
        "layers": 1,
        "hidden_size": 64,
        "heads": 2,
        "vocab_min_count": 1,
        "max_length": 24,
        "base_model": "scratch",
    }
    params = load_params(root / "params.yaml").model_copy(update=changes)
    sentences = [check(RawSentence("", str(i), annotated=line)) for i, line in enumerate(LINES * 5)]
    prepare_base_model(params, sentences, folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    development = retag(sentences, tokenizer, 24, 8)
    model = build_model(folder / "base", 0.0).eval()
    encoder = model.roberta
    tag_of = {
        i: tag
        for r in development
        for i, tag in zip(r.encoded.windows[0].input_ids, r.labels[0], strict=True)
        if tag >= 0
    }
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.zero_()
        for layer in (encoder.encoder.layer[0].attention.output.dense, encoder.encoder.layer[0].output.dense):
            layer.weight.zero_()
        encoder.embeddings.word_embeddings.weight[:, 0] += outlier
        hidden = encoder(input_ids=torch.tensor(list(tag_of))[:, None]).last_hidden_state[:, 0].double()
        wanted = 10 * torch.nn.functional.one_hot(torch.tensor(list(tag_of.values())), len(TAGS)).double()
        model.classifier.weight.copy_(torch.linalg.lstsq(hidden, wanted, driver="gelsd").solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    return folder / "trained", {"development": development, "test": development[:8]}


@pytest.fixture(scope="module")
def ordinary(root, tmp_path_factory):
    return trained(root, tmp_path_factory.mktemp("ordinary"))


@pytest.fixture(scope="module")
def spiky(root, tmp_path_factory):
    return trained(root, tmp_path_factory.mktemp("spiky"), outlier=20.0)


@pytest.fixture(scope="module")
def served(ordinary, tmp_path_factory):
    """The ordinary model's folder as `auto` exports it, and the figures."""
    folder = tmp_path_factory.mktemp("served") / "exported"
    return folder, export(*ordinary, folder, "auto")


def test_auto_takes_int8_where_it_finds_the_same(served):
    folder, figures = served
    assert figures["precision"] == "int8"
    assert figures["refused"] == {}
    tagger = Tagger.load(folder, "cpu", 1)
    assert tagger.runtime.description == "ONNX Runtime int8, 1 thread"
    assert [(e.start, e.end, e.label) for e in tagger.tag("홍길동이 서울에서")] == [(0, 3, "PS"), (5, 7, "LC")]


def test_the_figures_say_how_far_it_is_from_the_trained_model(served):
    folder, figures = served
    assert figures["from_trained"]["test"] == {
        "span_f1": {"trained": 1.0, "exported": 1.0},
        "points": 0.0,
        "entities_differ": 0,
        "sentences_differ": 0,
    }
    assert figures["megabytes"] == {
        "trained": (folder / "model.safetensors").stat().st_size / 1e6,
        "exported": (folder / "model.onnx").stat().st_size / 1e6,
    }


def test_the_temperature_is_fitted_to_what_is_served(ordinary, served):
    folder, figures = served
    assert figures["temperature"] == fit_temperature(Tagger.load(folder, "cpu"), ordinary[1]["development"]) != 1
    assert Tagger.load(folder, "cpu").settings.temperature == figures["temperature"]


def test_the_folder_is_the_trained_models_and_the_onnx_file(ordinary, served):
    folder, figures = served
    assert {p.name for p in folder.iterdir()} == {p.name for p in ordinary[0].iterdir()} | {"model.onnx"}
    for path in ordinary[0].iterdir():
        if path.name != "config.json":
            assert (folder / path.name).read_bytes() == path.read_bytes()
    before, after = (json.loads((f / "config.json").read_text()) for f in (ordinary[0], folder))
    settings = {name: figures[name] for name in ("temperature", "outside_bias")} | {"legal": True}
    assert after == before | {f"koner_{name}": value for name, value in settings.items()}


def test_fp32_is_served_where_it_is_asked_for(ordinary, tmp_path):
    figures = export(*ordinary, tmp_path / "exported", "fp32")
    assert figures["precision"] == "fp32"
    assert Tagger.load(tmp_path / "exported", "cpu", 1).runtime.description == "ONNX Runtime fp32, 1 thread"


def test_auto_falls_back_to_fp32_where_int8_finds_other_entities(spiky, tmp_path):
    figures = export(*spiky, tmp_path / "exported", "auto")
    assert figures["precision"] == "fp32"
    assert figures["from_trained"]["development"]["points"] == 0
    assert figures["refused"]["int8"]["development"]["points"] < -10
    assert figures["refused"]["int8"]["development"]["entities_differ"] > 5
    served = Tagger.load(tmp_path / "exported", "cpu", 1)
    assert served.runtime.description == "ONNX Runtime fp32, 1 thread"
    test = spiky[1]["test"]
    apart = difference(predict(Tagger.load(spiky[0], "cpu"), test), predict(served, test))
    assert apart == figures["from_trained"]["test"]


def test_int8_is_refused_where_it_finds_other_entities(spiky, tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "before").touch()
    with pytest.raises(
        KonerError, match=r"^serve_precision: int8 changes span F1 .* by -[\d.]+ points, .*auto or fp32"
    ):
        export(*spiky, tmp_path / "exported", "int8")
    # What was there is there still, and nothing else.
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["exported", "exported/before"]


def test_a_difference_counts_what_only_one_of_them_found():
    gold = (Entity(0, 2, "LC"), Entity(3, 5, "PS"))

    def prediction(*found):
        return Prediction("1", "가나다라마바", None, gold, tuple(ScoredEntity(*f, 0.5) for f in found), (), (), (), ())

    both, one = prediction((0, 2, "LC"), (3, 5, "PS")), prediction((0, 2, "LC"), (3, 5, "OG"))
    assert difference([both, both], [both, one]) == {
        "span_f1": {"trained": 1.0, "exported": 0.75},
        "points": -25.0,
        "entities_differ": 2,
        "sentences_differ": 1,
    }
