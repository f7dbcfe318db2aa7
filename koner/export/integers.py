"""What both ways of quantization have in common: integer weights in an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

# Weights use seven bits: CPUs without VNNI add two products in 16 bits, which products of eight-bit weights overflow.
_WEIGHT_MAX, _EMBEDDING_MAX = 63, 127
TINY = np.finfo(np.float32).tiny

Constants = dict[str, np.ndarray]


def matrices(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the weights of a graph that are matrices, by name."""
    return {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}


def linear_layers(graph: GraphProto) -> list[NodeProto]:
    """Return the products with a matrix of weights, except for the classification head, which stays in floats."""
    weights = matrices(graph)
    head_inputs = next(node for node in graph.node if graph.output[0].name in node.output).input
    return [
        node
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and node.output[0] not in head_inputs
    ]


def quantize_weight(name: str, weight: TensorProto) -> Constants:
    """Return a matrix of weights as integers, `name`_int8, and the scale of each output unit, `name`_scale."""
    values, scales = _quantize(numpy_helper.to_array(weight), 0, _WEIGHT_MAX)
    return {f"{name}_int8": values, f"{name}_scale": scales.reshape(-1)}


def quantize_embeddings(graph: GraphProto) -> tuple[dict[str, list[NodeProto]], Constants]:
    """Quantize the tables that token ids select rows of; each row has a scale.

    Returns:
        The nodes that replace a node, by its output, and their constants.
    """
    weights = matrices(graph)
    replacements: dict[str, list[NodeProto]] = {}
    constants: Constants = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in weights and node.input[1] == graph.input[0].name:
            (table, ids), output = node.input, node.output[0]
            values, scales = _quantize(numpy_helper.to_array(weights[table]), 1, _EMBEDDING_MAX)
            constants |= {f"{table}_int8": values, f"{table}_scale": scales}
            replacements[output] = [
                helper.make_node("Gather", [f"{table}_int8", ids], [f"{output}_row"]),
                helper.make_node("Gather", [f"{table}_scale", ids], [f"{output}_row_scale"]),
                helper.make_node("Cast", [f"{output}_row"], [f"{output}_row_float"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{output}_row_float", f"{output}_row_scale"], [output]),
            ]
    return replacements, constants


def replace_nodes(
    graph: GraphProto, replacements: Mapping[str, Sequence[NodeProto]], constants: Mapping[str, np.ndarray]
) -> None:
    """Replace nodes of a graph, add constants, and remove the weights that no node uses any more.

    Args:
        graph: The graph; it is changed.
        replacements: The nodes that replace a node, by its output.
        constants: The new constants, by name.
    """
    nodes = [new for node in graph.node for new in replacements.get(node.output[0], [node])]
    # Copies, because some are nodes of the graph, which are deleted below.
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    used_names = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used_names]
    initializers += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)


def _quantize(weight: np.ndarray, axis: int, maximum: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a matrix to integers from -`maximum` to `maximum`; the values along `axis` share a scale."""
    scales = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / maximum, TINY).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales
