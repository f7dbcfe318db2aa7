"""Quantization of an ONNX model to eight-bit integers with scales of the activations that are computed at run time."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper

from koner.export.integers import (
    TINY,
    linear_layers,
    matrices,
    quantize_embeddings,
    quantize_weight,
    replace_nodes,
)

_ACTIVATION_MAX = 127
_STEP, _ZERO_POINT, _MIN_SCALE = "int8_step", "int8_zero", "int8_least"


def quantize_dynamically(model: ModelProto) -> ModelProto:
    """Quantize the linear layers and word embeddings of a token classifier to eight-bit integers.

    Weights have one scale per output unit, computed here. Activations have one scale per token, computed at run time
    (as in ZeroQuant, Yao et al. 2022), so that a token's scores do not depend on the rest of the batch, and an outlier
    in one token does not cost the others precision. Attention and the classification head stay in floats. The new
    operators are those of ONNX Runtime.

    Args:
        model: The fused model in fp32, whose attentions have linear layers of their own; it is not changed.

    Returns:
        The quantized model.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = matrices(graph)
    replacements, constants = quantize_embeddings(graph)
    constants |= {
        _STEP: np.array(1 / _ACTIVATION_MAX, np.float32),
        _ZERO_POINT: np.array(_ACTIVATION_MAX + 1, np.uint8),
        _MIN_SCALE: np.array(TINY),
    }
    quantized_activations: set[str] = set()
    for node in linear_layers(graph):
        activation, weight = node.input
        first = [] if activation in quantized_activations else _create_activation_nodes(activation)
        quantized_activations.add(activation)
        replacements[node.output[0]] = [*first, *_create_linear_nodes(activation, weight, node.output[0])]
        constants |= quantize_weight(weight, weights[weight])
    replace_nodes(graph, replacements, constants)
    return quantized


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
