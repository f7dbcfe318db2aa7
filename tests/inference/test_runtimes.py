import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForTokenClassification, RobertaConfig, RobertaForTokenClassification

from koner.errors import KonerError
from koner.inference.runtimes import ONNX_FILE, PRECISION_KEY, OnnxRuntime, TorchRuntime, choose_runtime

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 13,
}
IDS = np.array([[0, 9, 8, 7, 2], [0, 9, 2, 1, 1]], np.int64)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64)


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def export(model, path, inputs=("input_ids", "attention_mask"), output="logits"):
    example = torch.ones(2, 3, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(model).eval(),
            (example, example),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*inputs, output)},
            dynamo=False,  # takes a second; the newer exporter takes a minute
        )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return RobertaForTokenClassification(RobertaConfig(**SIZES, max_position_embeddings=20, pad_token_id=1)).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A model folder with random weights, as safetensors and as ONNX."""
    folder = tmp_path_factory.mktemp("runtime")
    model.save_pretrained(folder)
    export(model, folder / ONNX_FILE)
    return folder


@pytest.fixture
def without_onnx(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns(ONNX_FILE))
    return tmp_path / "model"


def test_both_runtimes_return_the_logits_of_the_model(folder, model):
    with torch.inference_mode():
        expected = model(torch.from_numpy(IDS), torch.from_numpy(MASK)).logits.numpy()
    for runtime in (OnnxRuntime(folder / ONNX_FILE, 1), TorchRuntime(folder, "cpu", 1)):
        logits = runtime(IDS, MASK)
        assert logits.dtype == np.float32
        assert logits.shape == (2, 5, 13)
        assert np.abs(logits - expected)[MASK == 1].max() < 1e-5
        # Padding does not change the logits of a shorter row.
        assert np.abs(runtime(IDS[1:, :3], MASK[1:, :3])[0] - logits[1, :3]).max() < 1e-5


def test_a_model_of_another_architecture_is_supported(tmp_path):
    BertForTokenClassification(BertConfig(**SIZES, max_position_embeddings=20)).save_pretrained(tmp_path)
    assert TorchRuntime(tmp_path, "cpu")(IDS, MASK).shape == (2, 5, 13)


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_description_has_the_precision_and_the_number_of_threads(folder, tmp_path, threads, words):
    assert OnnxRuntime(folder / ONNX_FILE, threads).description == f"ONNX Runtime fp32, {words}"
    quantised = onnx.load(folder / ONNX_FILE)
    onnx.helper.set_model_props(quantised, {PRECISION_KEY: "int8"})
    onnx.save(quantised, tmp_path / ONNX_FILE)
    assert OnnxRuntime(tmp_path / ONNX_FILE, threads).description == f"ONNX Runtime int8, {words}"


def test_the_description_names_pytorch(folder):
    before = torch.get_num_threads()
    try:
        assert TorchRuntime(folder, "cpu", 1).description == "PyTorch fp32, 1 thread"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limit", "words"), [(None, "3 threads"), ("1", "1 thread"), ("8", "3 threads"), ("x", "3 threads")]
)
def test_the_default_is_one_thread_per_usable_core(folder, monkeypatch, limit, words):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert OnnxRuntime(folder / ONNX_FILE).description.endswith(f", {words}")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07garbage"])
def test_a_broken_onnx_file_is_reported(tmp_path, content):
    (tmp_path / ONNX_FILE).write_bytes(content)
    with pytest.raises(KonerError, match=r"model\.onnx can't be read as an ONNX model: ") as error:
        choose_runtime(tmp_path, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "output"), [(("input_ids", "mask"), "logits"), (("input_ids", "attention_mask"), "scores")]
)
def test_an_onnx_model_with_other_inputs_or_outputs_is_refused(model, tmp_path, inputs, output):
    export(model, tmp_path / ONNX_FILE, inputs, output)
    with pytest.raises(
        KonerError, match="is not a model with the inputs input_ids and attention_mask and the output logits"
    ):
        OnnxRuntime(tmp_path / ONNX_FILE)


def test_on_the_cpu_the_onnx_file_is_taken_where_there_is_one(folder, without_onnx):
    assert isinstance(choose_runtime(folder, "cpu"), OnnxRuntime)
    assert isinstance(choose_runtime(without_onnx, "cpu"), TorchRuntime)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_the_cpu_is_taken(folder):
    assert isinstance(choose_runtime(folder), OnnxRuntime)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_taken_before_the_onnx_file(folder, model):
    runtime = choose_runtime(folder)
    assert runtime.description.startswith("PyTorch ")
    assert torch.cuda.get_device_name() in runtime.description
    with torch.inference_mode():
        expected = model(torch.from_numpy(IDS), torch.from_numpy(MASK)).logits.numpy()
    assert np.abs(runtime(IDS, MASK) - expected)[MASK == 1].max() < 0.05


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_missing_device_is_reported(folder, device):
    with pytest.raises(KonerError, match=f"device: '{device}' can't be used: "):
        choose_runtime(folder, device)


def test_a_pickle_is_never_read(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(KonerError, match=r"can't be read as a model: it has no model\.safetensors"):
        choose_runtime(tmp_path, "cpu")


class Executed:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("way", ["beside", "index", "configuration"])
def test_a_pickle_is_never_read_whatever_names_it(without_onnx, tmp_path, way):
    (without_onnx / "pytorch_model.bin").write_bytes(pickle.dumps(Executed(tmp_path / "executed")))
    if way == "index":
        (without_onnx / "model.safetensors").unlink()
        index = {"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model.bin"}}
        (without_onnx / "model.safetensors.index.json").write_text(json.dumps(index))
    if way == "configuration":
        config = json.loads((without_onnx / "config.json").read_text())
        (without_onnx / "config.json").write_text(json.dumps({**config, "transformers_weights": "pytorch_model.bin"}))
    if way == "beside":
        assert choose_runtime(without_onnx, "cpu")(IDS, MASK).shape == (2, 5, 13)
    else:
        with pytest.raises(KonerError, match=r"weight_map must name safetensors files|transformers_weights is set"):
            choose_runtime(without_onnx, "cpu")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors", 5])
def test_an_index_that_names_weights_elsewhere_is_refused(without_onnx, name):
    (without_onnx / "model.safetensors").rename(without_onnx.parent / "model.safetensors")
    (without_onnx / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.weight": name}}))
    with pytest.raises(KonerError, match=r"index\.json: weight_map must name safetensors files in the folder, not "):
        choose_runtime(without_onnx, "cpu")


def test_an_adapter_is_refused(without_onnx):
    (without_onnx / "adapter_config.json").write_text('{"base_model_name_or_path": "../elsewhere"}')
    with pytest.raises(KonerError, match=r"adapter_config\.json: adapters are not supported"):
        choose_runtime(without_onnx, "cpu")


def test_weights_that_lack_a_part_of_the_model_are_refused(without_onnx):
    weights = load_file(without_onnx / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, without_onnx / "model.safetensors", {"format": "pt"})
    with pytest.raises(KonerError, match=r"the weights lack 1 of the model's, such as classifier\.weight"):
        choose_runtime(without_onnx, "cpu")


def test_weights_of_other_shapes_are_refused(without_onnx, capfd):
    config = json.loads((without_onnx / "config.json").read_text())
    labels = {"id2label": {"0": "O", "1": "B-PS"}, "label2id": {"O": 0, "B-PS": 1}}
    (without_onnx / "config.json").write_text(json.dumps({**config, **labels}))
    with pytest.raises(KonerError, match=r"holds weights of other shapes than config\.json describes"):
        choose_runtime(without_onnx, "cpu")
    assert capfd.readouterr().err == ""


def test_broken_weights_are_reported(without_onnx):
    (without_onnx / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(KonerError, match="model can't be read as a model: "):
        choose_runtime(without_onnx, "cpu")


def test_without_pytorch_only_the_onnx_file_can_be_run(folder, without_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert isinstance(choose_runtime(folder), OnnxRuntime)
    with pytest.raises(KonerError, match=r"holds no model\.onnx, and PyTorch, .* is not installed"):
        choose_runtime(without_onnx)
    with pytest.raises(
        KonerError, match="the device is 'cuda', and PyTorch, which could run the model, is not installed"
    ):
        choose_runtime(folder, "cuda")
