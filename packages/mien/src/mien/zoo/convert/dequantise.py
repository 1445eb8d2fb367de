"""Constant folding of weights that are stored as blocks of int8 (OpenCV Zoo's `int8bq` files).

ONNX Runtime refuses these files: their DequantizeLinear nodes are per tensor, yet carry a block size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from mien.zoo.convert.graph import attribute, replace_nodes, weight, weights_of

Arrays = dict[str, NDArray[Any]]


def fold_dequantised_weights(graph: GraphProto) -> None:
    """Replaces every DequantizeLinear of weights, and a Reshape that follows, by float32 weights."""
    stored = weights_of(graph)
    folded: Arrays = {}
    kept = [node for node in graph.node if not _fold(node, stored, folded)]
    replace_nodes(graph, kept)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(weight(name, values) for name, values in folded.items() if name in used)


def dequantise(
    quantised: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any], *, axis: int, block_size: int
) -> NDArray[np.float32]:
    """`(quantised - zero_point) * scale` as float32 (ONNX DequantizeLinear).

    `scale` and `zero_point` are one value, or one per index of `axis`, or one per `block_size` of them.
    """
    shape = quantised.shape
    zeros = _spread(zero_point.astype(np.float32), shape, axis, block_size)
    values = (quantised.astype(np.float32) - zeros) * _spread(scale, shape, axis, block_size)
    return np.asarray(values, np.float32)


def _fold(node: NodeProto, stored: Arrays, folded: Arrays) -> bool:
    if node.op_type == "DequantizeLinear" and all(name in stored for name in node.input if name):
        folded[node.output[0]] = _evaluate(node, stored)
    elif node.op_type == "Reshape" and node.input[0] in folded:
        folded[node.output[0]] = folded[node.input[0]].reshape(stored[node.input[1]])
    else:
        return False
    return True


def _evaluate(node: NodeProto, stored: Arrays) -> NDArray[np.float32]:
    quantised, scale = stored[node.input[0]], stored[node.input[1]]
    has_zero_point = len(node.input) > 2 and node.input[2]
    zero_point = stored[node.input[2]] if has_zero_point else np.zeros_like(scale)
    return dequantise(
        quantised, scale, zero_point, axis=attribute(node, "axis", 1), block_size=attribute(node, "block_size", 0)
    )


def _spread(values: NDArray[Any], shape: tuple[int, ...], axis: int, block_size: int) -> NDArray[Any]:
    if values.size == 1:
        return values.reshape(())
    if block_size and values.ndim == len(shape):
        return np.repeat(values, block_size, axis=axis).take(range(shape[axis]), axis=axis)
    return values.reshape([-1 if index == axis % len(shape) else 1 for index in range(len(shape))])
