"""SFace from OpenCV Zoo: float32 weights, batches."""

from pathlib import Path

from mien.zoo.convert import graph as edit
from mien.zoo.convert.dequantise import fold_dequantised_weights
from mien.zoo.convert.prelu import rewrite_prelu


def convert(source: Path) -> bytes:
    """`data` [N, 3, 112, 112] to `fc1` [N, 128]."""
    model = edit.read(source)
    fold_dequantised_weights(model.graph)
    rewrite_prelu(model.graph)
    edit.tidy(model.graph)
    edit.reshape_value(model.graph.input[0], ["N", 3, 112, 112])
    edit.reshape_value(model.graph.output[0], ["N", 128])
    return edit.serialise(model)
