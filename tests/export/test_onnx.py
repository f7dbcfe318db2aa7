import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DebertaV2Config,
    DebertaV2ForTokenClassification,
    ElectraConfig,
    ElectraForTokenClassification,
    FunnelConfig,
    FunnelForTokenClassification,
    RobertaConfig,
    RobertaForTokenClassification,
)

from koner.errors import KonerError
from koner.export import onnx as onnx_export
from koner.export.onnx import TOLERANCE, export_onnx
from koner.inference.runtimes import OnnxRuntime

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 13,
    "initializer_range": 0.2,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
FAMILIES = {
    "roberta": lambda: RobertaForTokenClassification(
        RobertaConfig(**SIZES, max_position_embeddings=42, pad_token_id=1)
    ),
    "bert": lambda: BertForTokenClassification(BertConfig(**SIZES, max_position_embeddings=40)),
    "electra": lambda: ElectraForTokenClassification(
        ElectraConfig(**SIZES, embedding_size=16, max_position_embeddings=40)
    ),
    "deberta": lambda: DebertaV2ForTokenClassification(
        DebertaV2Config(**SIZES, **RELATIVE, max_position_embeddings=40, type_vocab_size=0)
    ),
}


PRECISIONS = ("fp32", "int8", "int8-dynamic")


def samples(seed=2):
    """Return random windows, on which the ranges of activations are measured."""
    random = np.random.default_rng(seed)
    return [random.integers(5, SIZES["vocab_size"], length).tolist() for length in range(1, 41)]


def export_all(folder):
    for precision in PRECISIONS:
        export_onnx(folder, folder / f"{precision}.onnx", precision, samples())


def padded(lengths, pad, seed=1):
    """Return random sentences of these lengths as one batch, padded at the end."""
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return np.where(mask == 1, random.integers(5, SIZES["vocab_size"], mask.shape), pad), mask


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A random model of each family, and its folder with the ONNX files of all precisions."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(3)
    model = FAMILIES[request.param]().eval()
    model.save_pretrained(folder)
    export_all(folder)
    return model, folder


def test_the_logits_are_those_of_pytorch(family):
    model, folder = family
    runtime = OnnxRuntime(folder / "fp32.onnx", 1)
    for lengths in ([1], [7], [40], [3, 40, 17, 1], [2] * 9):
        ids, mask = padded(lengths, model.config.pad_token_id)
        with torch.inference_mode():
            expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
        logits = runtime(ids, mask)
        assert logits.shape == expected.shape
        assert np.abs(logits - expected)[mask == 1].max() < TOLERANCE * max(1, np.abs(expected).max())


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_int8_is_close_to_fp32_and_smaller(family, precision):
    model, folder = family
    floats, integers = (OnnxRuntime(folder / f"{name}.onnx", 1) for name in ("fp32", precision))
    ids, mask = padded([3, 40, 17, 1], model.config.pad_token_id)
    expected = floats(ids, mask)[mask == 1]
    difference = np.abs(integers(ids, mask)[mask == 1] - expected).max()
    assert 0 < difference < 0.2 * np.abs(expected).max()
    assert (folder / f"{precision}.onnx").stat().st_size < 0.8 * (folder / "fp32.onnx").stat().st_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a random RoBERTa with the ONNX files of all precisions."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(3)
    FAMILIES["roberta"]().save_pretrained(folder)
    export_all(folder)
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_describes_its_precision_and_shapes(folder, precision):
    model = onnx.load(folder / f"{precision}.onnx")
    onnx.checker.check_model(model)
    assert OnnxRuntime(folder / f"{precision}.onnx", 1).description == f"ONNX Runtime {precision}, 1 thread"
    shapes = {
        value.name: (value.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in dims])
        for value in (*model.graph.input, *model.graph.output)
        for dims in [value.type.tensor_type.shape.dim]
    }
    assert shapes == {
        "input_ids": (onnx.TensorProto.INT64, ["batch", "tokens"]),
        "attention_mask": (onnx.TensorProto.INT64, ["batch", "tokens"]),
        "logits": (onnx.TensorProto.FLOAT, ["batch", "tokens", 13]),
    }


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        # The linear layers of an attention are in it; its output and the two of the feed-forward layer remain.
        ("fp32", {"Attention": 2, "MatMul": 7}),
        ("int8", {"QAttention": 2, "MatMulIntegerToFloat": 6, "QuantizeLinear": 8, "MatMul": 1}),
        # Each linear layer stands alone; the head stays in floats.
        ("int8-dynamic", {"MultiHeadAttention": 2, "MatMulIntegerToFloat": 12, "QuantizeLinear": 8, "MatMul": 1}),
    ],
)
def test_attention_activations_and_layer_norms_are_fused(folder, precision, expected):
    kinds = Counter(node.op_type for node in onnx.load(folder / f"{precision}.onnx").graph.node)
    expected = {"LayerNormalization": 5, "Gelu": 2, **expected}
    assert {kind: kinds[kind] for kind in expected} == expected
    assert not {"SkipLayerNormalization", "BiasGelu", "Erf", "Softmax", "Sqrt"} & set(kinds)


def test_int8_cuts_off_values_outside_of_the_measured_ranges(folder, tmp_path):
    export_onnx(folder, tmp_path / "narrow.onnx", "int8", [[7], [8]])
    ids, mask = padded([40], pad=1)
    exact = OnnxRuntime(folder / "fp32.onnx", 1)(ids, mask)
    errors = [
        np.abs(OnnxRuntime(path, 1)(ids, mask) - exact).max()
        for path in (folder / "int8.onnx", tmp_path / "narrow.onnx")
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_logits_of_a_sentence_do_not_depend_on_its_batch(folder, precision):
    runtime = OnnxRuntime(folder / f"{precision}.onnx", 1)
    ids, mask = padded([5, 40, 23, 5], pad=1)
    together = runtime(ids, mask)
    quantization_error = np.abs(together - OnnxRuntime(folder / "fp32.onnx", 1)(ids, mask))[mask == 1].max()
    for row, length in enumerate(mask.sum(axis=1)):
        alone = runtime(ids[row : row + 1, :length], mask[row : row + 1, :length])[0]
        # Sums in another order are rounded otherwise, by far less than the error of quantization.
        assert np.abs(alone - together[row, :length]).max() < max(1e-5, 0.1 * quantization_error)


def test_the_same_model_is_exported_to_the_same_bytes(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    code = (
        "import sys; from pathlib import Path; from tests.export.test_onnx import export_all; "
        "export_all(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, elsewhere], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    for precision in PRECISIONS:
        content = (folder / f"{precision}.onnx").read_bytes()
        assert (elsewhere / f"{precision}.onnx").read_bytes() == content
        for machine_detail in (str(folder), str(Path(onnx_export.__file__).parent), torch.__version__):
            assert machine_detail.encode() not in content


def test_a_graph_with_other_logits_is_refused(folder, tmp_path, monkeypatch):
    fuse = onnx_export._fuse

    def fuse_and_change(*arguments):
        model = fuse(*arguments)
        bias = next(tensor for tensor in model.graph.initializer if tensor.dims == [13])
        changed = onnx.numpy_helper.to_array(bias) + np.float32(1)
        bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
        return model

    monkeypatch.setattr(onnx_export, "_fuse", fuse_and_change)
    with pytest.raises(KonerError, match="differ from those of PyTorch by 1, more than "):
        export_onnx(folder, tmp_path / "model.onnx", "int8", samples())
    assert not (tmp_path / "model.onnx").exists()


def test_an_unsupported_architecture_is_refused(tmp_path):
    config = FunnelConfig(vocab_size=90, d_model=32, n_head=2, d_head=16, d_inner=64, block_sizes=[1, 1], num_labels=13)
    FunnelForTokenClassification(config).save_pretrained(tmp_path)
    with pytest.raises(KonerError, match="models of this type can't be exported to ONNX: ") as error:
        export_onnx(tmp_path, tmp_path / "model.onnx", "fp32")
    assert "\n" not in str(error.value)


def test_the_export_prints_and_logs_nothing(folder, tmp_path, caplog, capfd, recwarn):
    export_onnx(folder, tmp_path / "model.onnx", "int8", samples())
    assert not caplog.records
    assert capfd.readouterr().out == ""
    assert not recwarn.list
