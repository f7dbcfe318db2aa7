import shutil
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, RobertaConfig, RobertaForTokenClassification

from koner.errors import KonerError
from koner.runtime import ONNX_FILE, PRECISION_KEY, OnnxRuntime, TorchRuntime, choose_runtime

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
            dynamo=False,  # in a second, not a minute
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


def test_both_runtimes_give_the_models_logits(folder, model):
    with torch.inference_mode():
        expected = model(torch.from_numpy(IDS), torch.from_numpy(MASK)).logits.numpy()
    for runtime in (OnnxRuntime(folder / ONNX_FILE, 1), TorchRuntime(folder, "cpu", 1)):
        found = runtime(IDS, MASK)
        assert found.dtype == np.float32
        assert found.shape == (2, 5, 13)
        assert np.abs(found - expected)[MASK == 1].max() < 1e-5
        # Padding adds nothing to a shorter row.
        assert np.abs(runtime(IDS[1:, :3], MASK[1:, :3])[0] - found[1, :3]).max() < 1e-5


def test_a_model_of_another_kind_is_run_too(tmp_path):
    BertForTokenClassification(BertConfig(**SIZES, max_position_embeddings=20)).save_pretrained(tmp_path)
    assert TorchRuntime(tmp_path, "cpu")(IDS, MASK).shape == (2, 5, 13)


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_description_says_what_the_file_holds_and_how_many_threads(folder, tmp_path, threads, words):
    assert OnnxRuntime(folder / ONNX_FILE, threads).description == f"ONNX Runtime fp32, {words}"
    quantised = onnx.load(folder / ONNX_FILE)
    onnx.helper.set_model_props(quantised, {PRECISION_KEY: "int8"})
    onnx.save(quantised, tmp_path / ONNX_FILE)
    assert OnnxRuntime(tmp_path / ONNX_FILE, threads).description == f"ONNX Runtime int8, {words}"


def test_pytorch_says_so(folder):
    before = torch.get_num_threads()
    try:
        assert TorchRuntime(folder, "cpu", 1).description == "PyTorch fp32, 1 thread"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limit", "words"), [(None, "3 threads"), ("1", "1 thread"), ("8", "3 threads"), ("x", "3 threads")]
)
def test_without_a_number_all_cores_that_the_process_may_use_are_used(folder, monkeypatch, limit, words):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert OnnxRuntime(folder / ONNX_FILE).description.endswith(f", {words}")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07garbage"])
def test_a_broken_onnx_file_is_named(tmp_path, content):
    (tmp_path / ONNX_FILE).write_bytes(content)
    with pytest.raises(KonerError, match=r"model\.onnx can't be read as an ONNX model: ") as error:
        choose_runtime(tmp_path, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "output"), [(("input_ids", "mask"), "logits"), (("input_ids", "attention_mask"), "scores")]
)
def test_an_onnx_model_of_something_else_is_refused(model, tmp_path, inputs, output):
    export(model, tmp_path / ONNX_FILE, inputs, output)
    with pytest.raises(KonerError, match="is not of a model from input_ids and attention_mask to logits"):
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
def test_a_device_that_is_not_there_is_named(folder, device):
    with pytest.raises(KonerError, match=f"device: '{device}' can't be used: "):
        choose_runtime(folder, device)


def test_a_pickle_is_never_read(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(KonerError, match=r"can't be read as a model: .*model\.safetensors"):
        choose_runtime(tmp_path, "cpu")


def test_broken_weights_are_named(without_onnx):
    (without_onnx / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(KonerError, match="model can't be read as a model: "):
        choose_runtime(without_onnx, "cpu")


def test_without_pytorch_the_onnx_file_is_all_that_can_be_run(folder, without_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert isinstance(choose_runtime(folder), OnnxRuntime)
    with pytest.raises(KonerError, match=r"holds no model\.onnx, and PyTorch is not installed"):
        choose_runtime(without_onnx)
    with pytest.raises(KonerError, match="device 'cuda' is asked for, and PyTorch is not installed"):
        choose_runtime(folder, "cuda")
