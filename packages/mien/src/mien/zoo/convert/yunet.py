"""YuNet from OpenCV Zoo: float32 weights, any batch, any height and width that 32 divides."""

from pathlib import Path

import numpy as np
from onnx import GraphProto

from mien.zoo.convert import graph as edit
from mien.zoo.convert.dequantise import fold_dequantised_weights

CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def convert(source: Path) -> bytes:
    """`input` [N, 3, H, W] to `cls_s`, `obj_s`, `bbox_s`, `kps_s` [N, cells, channels] for s = 8, 16, 32."""
    model = edit.read(source)
    fold_dequantised_weights(model.graph)
    edit.tidy(model.graph)
    _keep_batch(model.graph)
    edit.reshape_value(model.graph.input[0], ["N", 3, "H", "W"])
    for output in model.graph.output:
        kind, stride = output.name.split("_")
        edit.reshape_value(output, ["N", f"cells_{stride}", CHANNELS[kind]])
    return edit.serialise(model)


def _keep_batch(graph: GraphProto) -> None:
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for name, values in edit.weights_of(graph).items():
        if name in targets and values.shape == (3,) and values[:2].tolist() == [1, -1]:
            edit.replace_weight(graph, name, np.array([0, -1, values[2]], np.int64))
