"""Faceplugin's 68 landmarks: batches, and a current opset."""

from pathlib import Path

from onnx import version_converter

from mien.zoo.convert import graph as edit
from mien.zoo.convert.denormals import flush_tiny_weights

SIDE, NUMBERS = 64, 136


def convert(source: Path) -> bytes:
    """`input` [N, 1, 64, 64] to `output` [N, 136]; the same numbers as the original."""
    model = edit.read(source)
    edit.tidy(model.graph)
    edit.reshape_value(model.graph.input[0], ["N", 1, SIDE, SIDE])
    edit.reshape_value(model.graph.output[0], ["N", NUMBERS])
    model = version_converter.convert_version(model, edit.OPSET)
    model.ir_version = edit.IR_VERSION
    flush_tiny_weights(model.graph)
    edit.tidy(model.graph)
    return edit.serialise(model)
