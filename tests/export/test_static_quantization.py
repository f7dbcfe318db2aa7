import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from koner.export.static_quantization import measure_ranges, quantize_statically
from tests.export.test_dynamic_quantization import TAGS, TOKENS, UNITS, build_model, random_weights


def with_mask(model):
    """Add the second input of an exported model, which this one does not use."""
    model.graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"]))
    return model


def compute_logits(model, ids):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array(ids, np.int64), "attention_mask": np.ones_like(ids, np.int64)})[0]


@pytest.fixture
def floats():
    return with_mask(build_model(*random_weights()))


ALL = [list(range(TOKENS))]


def test_the_ranges_are_those_of_the_inputs_of_linear_layers(floats):
    before = floats.SerializeToString()
    table = random_weights()[0]
    # The head is not quantized, so the range of its input is not measured. Zero is in every range.
    assert measure_ranges(floats, ALL) == {"embedded": (pytest.approx(table.min()), pytest.approx(table.max()))}
    assert measure_ranges(floats, [[0], [1, 2]]) == {
        "embedded": (pytest.approx(table[:3].min()), pytest.approx(table[:3].max()))
    }
    assert floats.SerializeToString() == before


def test_the_logits_are_close_to_those_of_fp32_and_weights_are_bytes(floats):
    expected = compute_logits(floats, ALL)
    quantized = quantize_statically(floats, measure_ranges(floats, ALL))
    onnx.checker.check_model(quantized)
    assert 0 < np.abs(compute_logits(quantized, ALL) - expected).max() < 0.05 * np.abs(expected).max()
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    assert types["table_int8"] == types["weight_int8"] == TensorProto.INT8
    assert not {"table", "weight"} & set(types)


def test_values_outside_of_the_range_are_cut_off():
    model = with_mask(build_model(np.full((TOKENS, UNITS), 9.0, np.float32), np.eye(UNITS), np.eye(UNITS, TAGS)))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.eye(UNITS, dtype=np.float32), "weight"))
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.eye(UNITS, TAGS, dtype=np.float32), "head"))
    quantized = quantize_statically(model, {"embedded": (-1.0, 3.0)})
    np.testing.assert_allclose(compute_logits(quantized, [[1]]), 3, rtol=0.02)


def test_close_ranges_give_the_same_bytes(floats):
    (name,) = measure_ranges(floats, ALL)
    first, second = (quantize_statically(floats, {name: (-1.0, high)}) for high in (2.55, 2.5500001))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_a_bias_is_added_by_the_product(floats):
    bias = np.arange(UNITS, dtype=np.float32)
    floats.graph.node[1].output[0] = "product"
    floats.graph.node.insert(2, helper.make_node("Add", ["layer_bias", "product"], ["hidden"]))
    floats.graph.initializer.append(numpy_helper.from_array(bias, "layer_bias"))
    quantized = quantize_statically(floats, measure_ranges(floats, ALL))
    # The other sum is that of the head.
    assert [node.op_type for node in quantized.graph.node].count("Add") == 1
    expected = compute_logits(floats, ALL)
    assert np.abs(compute_logits(quantized, ALL) - expected).max() < 0.05 * np.abs(expected).max()


def test_two_sums_of_one_product_stay(floats):
    floats.graph.node[1].output[0] = "product"
    floats.graph.node.insert(2, helper.make_node("Add", ["layer_bias", "product"], ["one"]))
    floats.graph.node.insert(3, helper.make_node("Add", ["product", "layer_bias"], ["two"]))
    floats.graph.node.insert(4, helper.make_node("Mul", ["one", "two"], ["hidden"]))
    floats.graph.initializer.append(numpy_helper.from_array(np.ones(UNITS, np.float32), "layer_bias"))
    quantized = quantize_statically(floats, measure_ranges(floats, ALL))
    assert [node.op_type for node in quantized.graph.node].count("Add") == 3
    expected = compute_logits(floats, ALL)
    assert np.abs(compute_logits(quantized, ALL) - expected).max() < 0.05 * np.abs(expected).max()
