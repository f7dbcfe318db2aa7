import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from koner.export.dynamic_quantization import quantize_dynamically

TOKENS, UNITS, TAGS = 50, 32, 13


def build_model(table, weight, head):
    """Return a model with word embeddings, a linear layer and a head, as in an exported model."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "weight"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "head"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["logits"]),
    ]
    constants = {"table": table, "weight": weight, "head": head, "bias": np.zeros(head.shape[1], np.float32)}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", head.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compute_logits(model, ids):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array(ids, np.int64)})[0]


def random_weights(seed=0):
    random = np.random.default_rng(seed)
    shapes = (TOKENS, UNITS), (UNITS, UNITS), (UNITS, TAGS)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_the_logits_are_close_to_those_of_fp32():
    floats = build_model(*random_weights())
    ids = [range(TOKENS)]
    expected = compute_logits(floats, ids)
    quantized = compute_logits(quantize_dynamically(floats), ids)
    assert 0 < np.abs(quantized - expected).max() < 0.05 * np.abs(expected).max()


def test_all_weights_but_those_of_the_head_are_bytes():
    floats = build_model(*random_weights())
    before = floats.SerializeToString()
    types = {tensor.name: tensor.data_type for tensor in quantize_dynamically(floats).graph.initializer}
    assert types["table_int8"] == types["weight_int8"] == TensorProto.INT8
    assert types["head"] == TensorProto.FLOAT
    assert not {"table", "weight"} & set(types)
    # The model itself is unchanged.
    assert floats.SerializeToString() == before


def test_the_logits_of_a_token_do_not_depend_on_other_tokens():
    table, weight, head = random_weights()
    table[0] *= 1e6
    model = quantize_dynamically(build_model(table, weight, head))
    together = compute_logits(model, [range(TOKENS)])[0]
    for token in range(TOKENS):
        np.testing.assert_allclose(compute_logits(model, [[token]])[0, 0], together[token], rtol=1e-5)


def test_the_largest_values_do_not_overflow():
    # Some CPUs add two products in 16 bits, which products of eight bits each overflow.
    table, weight = np.ones((TOKENS, UNITS), np.float32), np.ones((UNITS, UNITS), np.float32)
    model = quantize_dynamically(build_model(table, weight, np.eye(UNITS, TAGS, dtype=np.float32)))
    np.testing.assert_allclose(compute_logits(model, [[1, 2, 3]]), UNITS, rtol=1e-5)


@pytest.mark.parametrize("zero", ["table", "weight"])
def test_zero_weights_result_in_zero_logits(zero):
    table, weight, head = random_weights()
    model = quantize_dynamically(build_model(table * (zero != "table"), weight * (zero != "weight"), head))
    assert not compute_logits(model, [[1, 2]]).any()


def test_a_product_of_two_activations_is_not_quantized():
    model = build_model(*random_weights())
    model.graph.node[1].CopyFrom(helper.make_node("Mul", ["embedded", "embedded"], ["hidden"]))
    model.graph.node[2].CopyFrom(helper.make_node("MatMul", ["hidden", "turned"], ["scores"]))
    model.graph.node.insert(2, helper.make_node("Transpose", ["hidden"], ["turned"], perm=[0, 2, 1]))
    model.graph.node[-1].CopyFrom(helper.make_node("Identity", ["scores"], ["logits"]))
    del model.graph.output[0].type.tensor_type.shape.dim[2]
    assert [node.op_type for node in quantize_dynamically(model).graph.node].count("MatMul") == 1
    onnx.checker.check_model(quantize_dynamically(model))
