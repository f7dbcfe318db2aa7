"""Quantization of an ONNX model to eight-bit integers with scales of the activations that are measured beforehand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from koner.export.integers import (
    TINY,
    Constants,
    linear_layers,
    matrices,
    quantize_embeddings,
    quantize_weight,
    replace_nodes,
)
from koner.inference.runtimes import INPUTS

_LARGEST_BYTE = 255
# Ranges that different CPUs measure differ in their last digits; with rounded scales the file is the same.
_DIGITS = 3
# The attributes that the quantized form of an attention has, too.
_ATTENTION_ATTRIBUTES = frozenset({"num_heads", "unidirectional", "mask_filter_value", "scale"})
# Activation, weights, biases, and the lengths of the rows.
_ATTENTION_INPUTS = 4
_WEIGHT_ZERO = "int8_weight_zero"

# The smallest and the largest value of each activation that is quantized, by its name.
Ranges = Mapping[str, tuple[float, float]]


def measure_ranges(model: ModelProto, samples: Iterable[Sequence[int]]) -> Ranges:
    """Measure the ranges of the activations that `quantize_statically` quantizes.

    Args:
        model: The fused model in fp32; it is not changed.
        samples: The token ids of windows, with special tokens; at least one.
    """
    names = sorted({node.input[0] for node in _quantizable_nodes(model.graph)})
    observed = ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    lowest: dict[str, float] = defaultdict(float)
    highest: dict[str, float] = defaultdict(float)
    for sample in samples:
        ids = np.array([sample], np.int64)
        values = session.run(names, dict(zip(INPUTS, (ids, np.ones_like(ids)), strict=True)))
        for name, activation in zip(names, values, strict=True):
            lowest[name] = min(lowest[name], float(activation.min()))
            highest[name] = max(highest[name], float(activation.max()))
    return {name: (lowest[name], highest[name]) for name in names}


def quantize_statically(model: ModelProto, ranges: Ranges) -> ModelProto:
    """Quantize the linear layers and word embeddings of a token classifier to eight-bit integers.

    Weights have one scale per output unit. An activation has one scale for all texts, so that a token's scores do not
    depend on the rest of the batch, and nothing is computed at run time to quantize it; values outside of its range are
    cut off. The products of attention, normalizations and the classification head stay in floats. The new operators are
    those of ONNX Runtime.

    Args:
        model: The fused model in fp32; it is not changed.
        ranges: The ranges of the activations, as `measure_ranges` returns them.

    Returns:
        The quantized model.
    """
    quantized = ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = matrices(graph)
    replacements, constants = quantize_embeddings(graph)
    constants[_WEIGHT_ZERO] = np.array(0, np.int8)
    quantizable = _quantizable_nodes(graph)
    sums = _find_sums(graph, {node.output[0] for node in quantizable})
    for node in quantizable:
        activation, weight = node.input[:2]
        new = []
        if f"{activation}_zero" not in constants:
            constants |= _activation_constants(activation, *ranges[activation])
            inputs = [activation, f"{activation}_scale", f"{activation}_zero"]
            new.append(helper.make_node("QuantizeLinear", inputs, [f"{activation}_int8"]))
        constants |= quantize_weight(weight, weights[weight])
        if node.op_type == "Attention":
            new.append(_quantized_attention(node))
        else:
            total, bias = sums.get(node.output[0], (node.output[0], ""))
            new.append(_quantized_linear_layer(node, total, bias))
            replacements[total] = []
        replacements[node.output[0]] = new
    replace_nodes(graph, replacements, constants)
    return quantized


def _quantizable_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the linear layers, and the attentions that contain linear layers."""
    weights = matrices(graph)
    attentions = [
        node
        for node in graph.node
        if node.op_type == "Attention"
        and node.input[1] in weights
        and len(node.input) == _ATTENTION_INPUTS
        and {attribute.name for attribute in node.attribute} <= _ATTENTION_ATTRIBUTES
    ]
    return [*linear_layers(graph), *attentions]


def _find_sums(graph: GraphProto, outputs: set[str]) -> dict[str, tuple[str, str]]:
    """Return the sum with a bias, and the bias, by the output that is used for this sum alone."""
    consumers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            consumers[name].append(node)
    vectors = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 1}
    sums = {}
    for output in outputs:
        (first, *others) = consumers[output]
        bias = vectors.intersection(first.input)
        if not others and first.op_type == "Add" and bias:
            sums[output] = first.output[0], bias.pop()
    return sums


def _activation_constants(name: str, lowest: float, highest: float) -> Constants:
    """Return the scale and the zero point of an activation."""
    scale = float(f"{max((highest - lowest) / _LARGEST_BYTE, float(TINY)):.{_DIGITS}g}")
    zero = np.clip(np.rint(-lowest / scale), 0, _LARGEST_BYTE)
    return {f"{name}_scale": np.array(scale, np.float32), f"{name}_zero": np.array(zero, np.uint8)}


def _quantized_linear_layer(node: NodeProto, output: str, bias: str) -> NodeProto:
    activation, weight = node.input
    inputs = [f"{activation}_int8", f"{weight}_int8", f"{activation}_scale", f"{weight}_scale", f"{activation}_zero"]
    if bias:
        # The zero point of the weights is left out.
        inputs += ["", bias]
    return helper.make_node("MatMulIntegerToFloat", inputs, [output], domain="com.microsoft")


def _quantized_attention(node: NodeProto) -> NodeProto:
    activation, weight, bias, lengths = node.input
    inputs = [f"{activation}_int8", f"{weight}_int8", bias, f"{activation}_scale", f"{weight}_scale", lengths]
    inputs += [f"{activation}_zero", _WEIGHT_ZERO]
    quantized = helper.make_node("QAttention", inputs, list(node.output), domain="com.microsoft")
    quantized.attribute.extend(node.attribute)
    return quantized
