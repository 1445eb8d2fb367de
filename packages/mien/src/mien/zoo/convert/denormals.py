"""Weights too small to matter, set to zero: a CPU computes with denormal numbers many times slower."""

import numpy as np
from onnx import GraphProto

from mien.zoo.convert.graph import replace_weight, weights_of

SMALLEST = 1e-20


def flush_tiny_weights(graph: GraphProto) -> int:
    """Sets float weights below 1e-20 to zero; returns how many were not zero before."""
    flushed = 0
    for name, values in weights_of(graph).items():
        if values.dtype != np.float32:
            continue
        tiny = (np.abs(values) < SMALLEST) & (values != 0)
        if tiny.any():
            replace_weight(graph, name, np.where(tiny, np.float32(0), values))
            flushed += int(tiny.sum())
    return flushed
