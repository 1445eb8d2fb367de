"""Reading, changing and writing ONNX graphs: what several recipes share."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from mien.errors import ModelCorrupt

OPSET = 17
IR_VERSION = 8


def read(path: Path) -> ModelProto:
    """The model in the file at `path`. Raises ModelCorrupt when it is no ONNX file."""
    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise ModelCorrupt("the file to convert is no ONNX model") from error
    if not model.graph.node:
        raise ModelCorrupt("the file to convert is an ONNX model without operators")
    return model


def serialise(model: ModelProto) -> bytes:
    """The checked model as bytes: the same for the same model."""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def build(
    name: str,
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Sequence[TensorProto],
) -> bytes:
    """A new model as bytes."""
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="mien")
    model.ir_version = IR_VERSION
    return serialise(model)


def floats(name: str, shape: Sequence[int | str]) -> ValueInfoProto:
    """A float32 input or output; a string is a dynamic dimension."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def weight(name: str, values: NDArray[Any] | np.generic) -> TensorProto:
    """An initializer that holds `values`."""
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def weights_of(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """The graph's initializers as arrays, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((found.i for found in node.attribute if found.name == name), default)


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Makes `nodes` the graph's nodes."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def tidy(graph: GraphProto) -> None:
    """Leaves only true inputs and used weights; drops the shapes noted for a fixed size."""
    used = {name for node in graph.node for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    named = {tensor.name for tensor in weights}
    inputs = [value for value in graph.input if value.name in used and value.name not in named]
    del graph.input[:], graph.initializer[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.initializer.extend(weights)


def reshape_value(value: ValueInfoProto, shape: Sequence[int | str]) -> None:
    """Declares the shape of an input or output; a string is a dynamic dimension."""
    value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, list(shape)))


def replace_weight(graph: GraphProto, name: str, values: NDArray[Any]) -> None:
    """Gives the initializer `name` new values."""
    next(tensor for tensor in graph.initializer if tensor.name == name).CopyFrom(weight(name, values))
