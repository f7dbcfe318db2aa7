"""Eight-bit integers in place of a model's 32-bit floats: a quarter of the size, and faster on a CPU."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

# Weights have seven bits: CPUs without VNNI add two products in 16 bits, which those of eight-bit weights overflow.
_WEIGHT_MAX, _EMBEDDING_MAX, _ACTIVATION_MAX = 63, 127, 127
_TINY = np.finfo(np.float32).tiny
_STEP, _ZERO, _LEAST = "int8_step", "int8_zero", "int8_least"


def quantize(model: ModelProto) -> ModelProto:
    """Turns the linear layers and word embeddings of a token classifier to eight-bit integers; gives a new model.

    A weight's scale is that of its output unit, set here. An activation's is that of its token, found as the model
    runs (as in ZeroQuant, Yao et al. 2022): so a token's numbers never hang on what else is in its batch, as they do
    where a whole tensor has one scale, and an outlier in one token leaves the others' precision alone. Attention and
    the head stay in floats. The nodes it puts in are ONNX Runtime's own.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    head = next(node for node in graph.node if graph.output[0].name in node.output).input
    nodes: list[NodeProto] = []
    constants: dict[str, np.ndarray] = {
        _STEP: np.array(1 / _ACTIVATION_MAX, np.float32),
        _ZERO: np.array(_ACTIVATION_MAX + 1, np.uint8),
        _LEAST: np.array(_TINY),
    }
    replaced: set[str] = set()
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tables and node.output[0] not in head:
            activation, weight = node.input
            if activation not in seen:
                nodes += _quantized_activation(activation)
                seen.add(activation)
            nodes += _linear(activation, weight, node.output[0])
            values, scales = _rounded(numpy_helper.to_array(tables[weight]), 0, _WEIGHT_MAX)
        elif node.op_type == "Gather" and node.input[0] in tables and node.input[1] == graph.input[0].name:
            weight = node.input[0]
            nodes += _embedding(weight, node.input[1], node.output[0])
            values, scales = _rounded(numpy_helper.to_array(tables[weight]), 1, _EMBEDDING_MAX)
        else:
            nodes.append(node)
            continue
        constants |= {f"{weight}_int8": values, f"{weight}_scale": scales}
        replaced.add(weight)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return quantized


def _rounded(weight: np.ndarray, axis: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -`most` to `most`, and the scales, one for each index of the other axis, that give back floats."""
    scales = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / most, _TINY).astype(np.float32)
    values = np.rint(weight / scales).astype(np.int8)
    return values, scales.reshape(-1) if axis == 0 else scales


def _quantized_activation(name: str) -> list[NodeProto]:
    """Divides each token's units by their largest, `name`_largest, and makes bytes of them, `name`_int8."""
    return [
        helper.make_node("Abs", [name], [f"{name}_abs"]),
        helper.make_node("ReduceMax", [f"{name}_abs"], [f"{name}_max"], axes=[-1], keepdims=1),
        helper.make_node("Max", [f"{name}_max", _LEAST], [f"{name}_largest"]),
        helper.make_node("Div", [name, f"{name}_largest"], [f"{name}_unit"]),
        helper.make_node("QuantizeLinear", [f"{name}_unit", _STEP, _ZERO], [f"{name}_int8"]),
    ]


def _linear(activation: str, weight: str, output: str) -> list[NodeProto]:
    inputs = [f"{activation}_int8", f"{weight}_int8", _STEP, f"{weight}_scale", _ZERO]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [f"{output}_unit"], domain="com.microsoft"),
        helper.make_node("Mul", [f"{output}_unit", f"{activation}_largest"], [output]),
    ]


def _embedding(table: str, ids: str, output: str) -> list[NodeProto]:
    return [
        helper.make_node("Gather", [f"{table}_int8", ids], [f"{output}_row"]),
        helper.make_node("Gather", [f"{table}_scale", ids], [f"{output}_row_scale"]),
        helper.make_node("Cast", [f"{output}_row"], [f"{output}_row_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_row_float", f"{output}_row_scale"], [output]),
    ]
