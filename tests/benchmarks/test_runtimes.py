import pytest

from benchmarks import experts, runtimes
from koner.errors import KonerError
from koner.inference.tagger import Tagger
from tests.inference.trained_model import LINES, write_trained_model

TEXTS = ["홍길동이 서울에서 3명을 만났다.", "정부는 지난해 부산에 갔다.", "서울", "아무도 오지 않았다. 경찰을 불렀다."]


@pytest.fixture(scope="module")
def model(root, tmp_path_factory):
    _, folder, _ = write_trained_model(root, tmp_path_factory.mktemp("model"), LINES)
    return runtimes.Model(folder, Tagger.load(folder, "cpu", 1), tmp_path_factory.mktemp("files"), 1, TEXTS)


def test_ways_are_measured_in_every_repeat_and_compared(model):
    names = [runtimes.REFERENCE, "koner fp32", "ONNX Runtime dynamic int8, fused"]
    functions = {name: runtimes.WAYS[name](model) for name in names}
    tags = {name: runtimes.token_tags(tag, TEXTS, 2) for name, tag in functions.items()}
    texts, tokens = runtimes.select_texts(model.tagger, TEXTS, None)
    # The last text has two sentences, and so two windows; each window has two special tokens.
    assert (texts, tokens) == (TEXTS, len(tags[runtimes.REFERENCE]) + 2 * 5)
    speeds = runtimes.measure(functions, TEXTS, tokens, [1, 3], 2)
    assert all(
        speed.sentences > 0 and speed.tokens > 0 for ways in speeds.values() for s in ways.values() for speed in s
    )
    assert [len(speeds[size][name]) for size in (1, 3) for name in names] == [2] * 6
    table = runtimes.format_speeds(speeds, tags, names[0]).splitlines()
    assert "batch 3, tokens/CPU s" in table[0]
    assert table[3].startswith("| koner fp32 |")
    assert table[3].endswith("| 100.00% |")


def test_only_texts_with_a_number_of_tokens_are_selected(model):
    texts, tokens = runtimes.select_texts(model.tagger, [*TEXTS, "부산"], 3)
    assert (texts, tokens) == (["서울", "부산"], 6)
    with pytest.raises(KonerError, match="--tokens: none of the 4 sentences has 400 tokens"):
        runtimes.select_texts(model.tagger, TEXTS, 400)


def test_ways_without_their_packages_are_left_out_with_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(experts, "find_spec", lambda name: None)
    names = experts.select(None, runtimes.PACKAGES)
    assert names == [name for name in runtimes.WAYS if "OpenVINO" not in name]
    sentence = "OpenVINO int8 by NNCF needs packages that are not installed: pip install openvino nncf"
    assert capsys.readouterr().out.splitlines()[-1] == f"{sentence}; it is left out"
    with pytest.raises(KonerError, match=sentence):
        experts.select(["OpenVINO int8 by NNCF"], runtimes.PACKAGES)


@pytest.mark.skipif(
    bool(experts.missing_packages("OpenVINO int8 by NNCF", runtimes.PACKAGES)),
    reason="openvino or nncf is not installed",
)
def test_a_model_quantized_by_nncf_runs(model):
    tag = runtimes.WAYS["OpenVINO int8 by NNCF"](model)
    assert len(runtimes.token_tags(tag, TEXTS, 2)) == len(runtimes.token_tags(model.tagger.tag_all, TEXTS, 2))
