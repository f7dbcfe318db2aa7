import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from koner.quantization import quantize

TOKENS, UNITS, TAGS = 50, 32, 13


def model(table, weight, head):
    """Word embeddings, a linear layer and a head, as they stand in an exported model."""
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


def logits(made, ids):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array(ids, np.int64)})[0]


def drawn(seed=0):
    random = np.random.default_rng(seed)
    shapes = (TOKENS, UNITS), (UNITS, UNITS), (UNITS, TAGS)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_the_answers_are_near_the_floats():
    floats = model(*drawn())
    ids = [range(TOKENS)]
    expected = logits(floats, ids)
    found = logits(quantize(floats), ids)
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_are_bytes_but_those_of_the_head():
    floats = model(*drawn())
    before = floats.SerializeToString()
    types = {tensor.name: tensor.data_type for tensor in quantize(floats).graph.initializer}
    assert types["table_int8"] == types["weight_int8"] == TensorProto.INT8
    assert types["head"] == TensorProto.FLOAT
    assert not {"table", "weight"} & set(types)
    # It gives a new model.
    assert floats.SerializeToString() == before


def test_no_token_hangs_on_the_others():
    table, weight, head = drawn()
    table[0] *= 1e6
    made = quantize(model(table, weight, head))
    together = logits(made, [range(TOKENS)])[0]
    for token in range(TOKENS):
        np.testing.assert_allclose(logits(made, [[token]])[0, 0], together[token], rtol=1e-5)


def test_the_largest_numbers_do_not_overflow():
    # Two products of eight bits each are more than 16 bits hold, in which some CPUs add them.
    table, weight = np.ones((TOKENS, UNITS), np.float32), np.ones((UNITS, UNITS), np.float32)
    made = quantize(model(table, weight, np.eye(UNITS, TAGS, dtype=np.float32)))
    np.testing.assert_allclose(logits(made, [[1, 2, 3]]), UNITS, rtol=1e-5)


@pytest.mark.parametrize("zero", ["table", "weight"])
def test_nothing_but_zeros_gives_zeros(zero):
    table, weight, head = drawn()
    made = quantize(model(table * (zero != "table"), weight * (zero != "weight"), head))
    assert not logits(made, [[1, 2]]).any()


def test_a_product_of_two_activations_is_left_alone():
    made = model(*drawn())
    made.graph.node[1].CopyFrom(helper.make_node("Mul", ["embedded", "embedded"], ["hidden"]))
    made.graph.node[2].CopyFrom(helper.make_node("MatMul", ["hidden", "turned"], ["scores"]))
    made.graph.node.insert(2, helper.make_node("Transpose", ["hidden"], ["turned"], perm=[0, 2, 1]))
    made.graph.node[-1].CopyFrom(helper.make_node("Identity", ["scores"], ["logits"]))
    del made.graph.output[0].type.tensor_type.shape.dim[2]
    assert [node.op_type for node in quantize(made).graph.node].count("MatMul") == 1
    onnx.checker.check_model(quantize(made))
