"""Faceplugin's head pose: batches, and a current opset."""

from pathlib import Path

import numpy as np
from onnx import GraphProto, numpy_helper, version_converter

from mien.zoo.convert import graph as edit
from mien.zoo.convert.denormals import flush_tiny_weights

SIDE, BINS = 224, 66
ANGLES = {"output": "yaw", "617": "pitch"}
"""The outputs that are kept, and their names: roll is known better from the landmarks."""


def convert(source: Path) -> bytes:
    """`input` [N, 3, 224, 224] to the bins `yaw` and `pitch`, [N, 66] each; the same numbers as the original."""
    model = edit.read(source)
    _keep_angles(model.graph)
    edit.tidy(model.graph)
    _shuffle_per_item(model.graph)
    edit.reshape_value(model.graph.input[0], ["N", 3, SIDE, SIDE])
    for output in model.graph.output:
        edit.reshape_value(output, ["N", BINS])
    model = version_converter.convert_version(model, edit.OPSET)
    model.ir_version = edit.IR_VERSION
    flush_tiny_weights(model.graph)
    edit.tidy(model.graph)
    return edit.serialise(model)


def _keep_angles(graph: GraphProto) -> None:
    dropped = {output.name for output in graph.output} - set(ANGLES)
    edit.replace_nodes(graph, [node for node in graph.node if not dropped & set(node.output)])
    kept = [output for output in graph.output if output.name in ANGLES]
    del graph.output[:]
    graph.output.extend(kept)
    for value in graph.output:
        value.name = ANGLES[value.name]
    for node in graph.node:
        if node.output[0] in ANGLES:
            node.output[0] = ANGLES[node.output[0]]


def _shuffle_per_item(graph: GraphProto) -> None:
    """The channel shuffles reshape one item, [1, …]; 0 keeps the size of the batch, whatever it is."""
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            shape = numpy_helper.to_array(node.attribute[0].t).copy()
            shape[0] = 0
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(shape.astype(np.int64)))
