"""Quantization of an ONNX model to eight-bit integers: a quarter of the size, and faster on a CPU."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

# Weights use seven bits: CPUs without VNNI add two products in 16 bits, which products of eight-bit weights overflow.
_WEIGHT_MAX, _EMBEDDING_MAX, _ACTIVATION_MAX = 63, 127, 127
_TINY = np.finfo(np.float32).tiny
_STEP, _ZERO_POINT, _MIN_SCALE = "int8_step", "int8_zero", "int8_least"


def quantize(model: ModelProto) -> ModelProto:
    """Quantize the linear layers and word embeddings of a token classifier to eight-bit integers.

    Weights have one scale per output unit, computed here. Activations have one scale per token, computed at run time
    (as in ZeroQuant, Yao et al. 2022), so that a token's scores do not depend on the rest of the batch, and an outlier
    in one token does not cost the others precision. Attention and the classification head stay in floats. The new
    operators are those of ONNX Runtime.

    Args:
        model: The fused model in fp32; it is not changed.

    Returns:
        The quantized model.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    head_inputs = next(node for node in graph.node if graph.output[0].name in node.output).input
    nodes: list[NodeProto] = []
    constants: dict[str, np.ndarray] = {
        _STEP: np.array(1 / _ACTIVATION_MAX, np.float32),
        _ZERO_POINT: np.array(_ACTIVATION_MAX + 1, np.uint8),
        _MIN_SCALE: np.array(_TINY),
    }
    quantized_activations: set[str] = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices and node.output[0] not in head_inputs:
            activation, weight = node.input
            if activation not in quantized_activations:
                nodes += _create_activation_nodes(activation)
                quantized_activations.add(activation)
            nodes += _create_linear_nodes(activation, weight, node.output[0])
            values, scales = _quantize_weight(numpy_helper.to_array(matrices[weight]), 0, _WEIGHT_MAX)
        elif node.op_type == "Gather" and node.input[0] in matrices and node.input[1] == graph.input[0].name:
            weight = node.input[0]
            nodes += _create_embedding_nodes(weight, node.input[1], node.output[0])
            values, scales = _quantize_weight(numpy_helper.to_array(matrices[weight]), 1, _EMBEDDING_MAX)
        else:
            nodes.append(node)
            continue
        constants |= {f"{weight}_int8": values, f"{weight}_scale": scales}
    used_names = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used_names]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return quantized


def _quantize_weight(weight: np.ndarray, axis: int, maximum: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a weight to integers from -`maximum` to `maximum`.

    Args:
        weight: The weight, a matrix.
        axis: The axis whose values share a scale.
        maximum: The largest integer.

    Returns:
        The integers, and the scale for each index of the other axis.
    """
    scales = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / maximum, _TINY).astype(np.float32)
    values = np.rint(weight / scales).astype(np.int8)
    return values, scales.reshape(-1) if axis == 0 else scales


def _create_activation_nodes(name: str) -> list[NodeProto]:
    """Divide the units of each token by the largest, `name`_largest, and quantize them to bytes, `name`_int8."""
    return [
        helper.make_node("Abs", [name], [f"{name}_abs"]),
        helper.make_node("ReduceMax", [f"{name}_abs"], [f"{name}_max"], axes=[-1], keepdims=1),
        helper.make_node("Max", [f"{name}_max", _MIN_SCALE], [f"{name}_largest"]),
        helper.make_node("Div", [name, f"{name}_largest"], [f"{name}_unit"]),
        helper.make_node("QuantizeLinear", [f"{name}_unit", _STEP, _ZERO_POINT], [f"{name}_int8"]),
    ]


def _create_linear_nodes(activation: str, weight: str, output: str) -> list[NodeProto]:
    inputs = [f"{activation}_int8", f"{weight}_int8", _STEP, f"{weight}_scale", _ZERO_POINT]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [f"{output}_unit"], domain="com.microsoft"),
        helper.make_node("Mul", [f"{output}_unit", f"{activation}_largest"], [output]),
    ]


def _create_embedding_nodes(table: str, ids: str, output: str) -> list[NodeProto]:
    return [
        helper.make_node("Gather", [f"{table}_int8", ids], [f"{output}_row"]),
        helper.make_node("Gather", [f"{table}_scale", ids], [f"{output}_row_scale"]),
        helper.make_node("Cast", [f"{output}_row"], [f"{output}_row_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_row_float", f"{output}_row_scale"], [output]),
    ]
