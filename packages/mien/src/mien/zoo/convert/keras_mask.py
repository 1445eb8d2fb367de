"""The mask classifier from a Keras HDF5 file: each layer becomes its ONNX operator."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from mien.errors import ModelCorrupt
from mien.zoo.convert.graph import build, floats, weight

PADDINGS = {"same": "SAME_UPPER", "valid": "VALID"}
ACTIVATIONS = {"relu": "Relu", "softmax": "Softmax", "sigmoid": "Sigmoid"}
CLASSES = ("mask", "no mask")


def convert(source: Path) -> bytes:
    """`image` [N, 224, 224, 3] to `probabilities` [N, 2]: mask, no mask."""
    if not h5py.is_hdf5(source):
        raise ModelCorrupt("the file to convert is no HDF5 file")
    with h5py.File(source, "r") as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        network = _Network(file["model_weights"])
        for layer in layers:
            network.add_layer(layer)
    network.add("Identity", [layers[-1]["name"]], "probabilities")
    height, width, channels = layers[0]["config"]["batch_input_shape"][1:]
    inputs = [floats("image", ["N", height, width, channels])]
    outputs = [floats("probabilities", ["N", len(CLASSES)])]
    return build("mask", network.nodes, inputs, outputs, network.weights)


class _Network:
    """The graph as far as it is built. Between layers, images are [N, channels, height, width]."""

    def __init__(self, stored: h5py.Group) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._stored = stored
        self._layers: dict[str, Callable[[str, list[str], dict[str, Any]], None]] = {
            "InputLayer": self._input,
            "ZeroPadding2D": self._zero_padding,
            "Conv2D": self._convolution,
            "DepthwiseConv2D": self._depthwise,
            "BatchNormalization": self._normalisation,
            "ReLU": self._relu,
            "Add": self._addition,
            "AveragePooling2D": self._average,
            "Flatten": self._flatten,
            "Dropout": self._dropout,
            "Dense": self._dense,
        }

    def add_layer(self, layer: dict[str, Any]) -> None:
        """Adds the operators of one layer of the Keras configuration."""
        kind = layer["class_name"]
        if kind not in self._layers:
            raise ModelCorrupt(f"the Keras file has a layer of kind {kind}, which this conversion does not know")
        inbound = layer["inbound_nodes"]
        inputs = [node[0] for node in inbound[0]] if inbound else []
        self._layers[kind](layer["name"], inputs, layer["config"])

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def _load(self, layer: str) -> list[NDArray[np.float32]]:
        group = self._stored[layer]
        return [np.asarray(group[name], np.float32) for name in group.attrs["weight_names"]]

    def _keep(self, name: str, values: NDArray[Any] | np.generic) -> str:
        self.weights.append(weight(name, values))
        return name

    def _input(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        self.add("Transpose", ["image"], name, perm=[0, 3, 1, 2])

    def _zero_padding(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        (top, bottom), (left, right) = config["padding"]
        pads = self._keep(f"{name}_pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        self.add("Pad", [inputs[0], pads], name)

    def _convolution(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        kernel, *bias = self._load(name)
        self._convolve(name, inputs[0], config, kernel.transpose(3, 2, 0, 1), bias, groups=1)

    def _depthwise(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        kernel, *bias = self._load(name)
        height, width, channels, _ = kernel.shape
        kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
        self._convolve(name, inputs[0], config, kernel, bias, groups=channels)

    def _convolve(
        self,
        name: str,
        x: str,
        config: dict[str, Any],
        kernel: NDArray[np.float32],
        bias: list[NDArray[np.float32]],
        *,
        groups: int,
    ) -> None:
        if config["activation"] != "linear":
            raise ModelCorrupt(f"the Keras layer {name} has an activation, which this conversion does not expect")
        given = [self._keep(f"{name}_{kind}", values) for kind, values in zip("wb", [kernel, *bias], strict=False)]
        shape = {"kernel_shape": kernel.shape[2:], "strides": config["strides"], "group": groups}
        self.add("Conv", [x, *given], name, auto_pad=PADDINGS[config["padding"]], **shape)

    def _normalisation(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        kinds = ("gamma", "beta", "mean", "variance")
        given = [self._keep(f"{name}_{kind}", values) for kind, values in zip(kinds, self._load(name), strict=True)]
        self.add("BatchNormalization", [inputs[0], *given], name, epsilon=config["epsilon"])

    def _relu(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        largest = config.get("max_value")
        if not largest:
            self.add("Relu", inputs, name)
            return
        low = self._keep(f"{name}_low", np.float32(0))
        high = self._keep(f"{name}_high", np.float32(largest))
        self.add("Clip", [inputs[0], low, high], name)

    def _addition(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        self.add("Add", inputs, name)

    def _average(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        self.add("AveragePool", inputs, name, kernel_shape=config["pool_size"], strides=config["strides"])

    def _flatten(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        # Keras flattens with channels last: the dense layer's weights are in that order.
        self.add("Transpose", inputs, f"{name}_channels_last", perm=[0, 2, 3, 1])
        self.add("Flatten", [f"{name}_channels_last"], name, axis=1)

    def _dropout(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        self.add("Identity", inputs, name)

    def _dense(self, name: str, inputs: list[str], config: dict[str, Any]) -> None:
        kernel, bias = self._load(name)
        given = [inputs[0], self._keep(f"{name}_w", kernel), self._keep(f"{name}_b", bias)]
        operator = ACTIVATIONS.get(config["activation"], "Identity")
        self.add("Gemm", given, f"{name}_dense")
        self.add(operator, [f"{name}_dense"], name)
