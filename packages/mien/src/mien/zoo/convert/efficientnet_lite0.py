"""EfficientNet-Lite0 from PyTorch weights: a graph built here, batch normalisation folded into convolutions.

Architecture: Tan and Le, https://arxiv.org/abs/1905.11946; the Lite variants have ReLU6 and no
squeeze-and-excitation.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from mien.zoo.convert.graph import build, floats, weight
from mien.zoo.convert.torch_pickle import read_torch_weights

EPSILON = 1e-3
EMBEDDING, CLASSES = 1280, 1000


class Stage(NamedTuple):
    """Blocks of one shape; the first has the stride and changes the number of channels."""

    repeats: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


STAGES = (
    Stage(1, 1, 1, 32, 16),
    Stage(2, 2, 6, 16, 24),
    Stage(2, 2, 6, 24, 40),
    Stage(3, 2, 6, 40, 80),
    Stage(3, 1, 6, 80, 112),
    Stage(4, 2, 6, 112, 192),
    Stage(1, 1, 6, 192, 320),
)


def convert(source: Path) -> bytes:
    """`image` [N, 3, 224, 224] to `probabilities` [N, 1000] and `embedding` [N, 1280]."""
    network = _Network(read_torch_weights(source))
    network.run()
    inputs = [floats("image", ["N", 3, 224, 224])]
    outputs = [floats("probabilities", ["N", CLASSES]), floats("embedding", ["N", EMBEDDING])]
    return build("efficientnet_lite0", network.nodes, inputs, outputs, network.weights)


class _Network:
    """The graph as far as it is built; each method adds a part and returns the name of its output."""

    def __init__(self, state: dict[str, NDArray[Any]]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = [weight("zero", np.float32(0)), weight("six", np.float32(6))]
        self._state = state

    def run(self) -> None:
        x = self._convolution("image", "_conv_stem", "_bn0", stride=2)
        index = 0
        for stage in STAGES:
            for repeat in range(stage.repeats):
                x = self._block(x, f"_blocks.{index}", stage, first=repeat == 0)
                index += 1
        self._head(self._convolution(x, "_conv_head", "_bn1"))

    def _block(self, x: str, prefix: str, stage: Stage, *, first: bool) -> str:
        channels = stage.channels_in if first else stage.channels_out
        stride = stage.stride if first else 1
        y = x
        if stage.expansion != 1:
            y = self._convolution(y, f"{prefix}._expand_conv", f"{prefix}._bn0")
        groups = channels * stage.expansion
        y = self._convolution(y, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride, groups=groups)
        y = self._convolution(y, f"{prefix}._project_conv", f"{prefix}._bn2", activate=False)
        if stride == 1 and channels == stage.channels_out:
            return self._add("Add", [y, x], f"{prefix}.out")
        return y

    def _convolution(
        self, x: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> str:
        kernel, bias = fold_batch_norm(self._state, name, norm)
        self.weights += [weight(f"{name}.w", kernel), weight(f"{name}.b", bias)]
        shape = {"kernel_shape": kernel.shape[2:], "strides": [stride, stride], "group": groups}
        y = self._add("Conv", [x, f"{name}.w", f"{name}.b"], f"{name}.out", auto_pad="SAME_UPPER", **shape)
        return self._add("Clip", [y, "zero", "six"], f"{name}.relu6") if activate else y

    def _head(self, x: str) -> None:
        self.weights += [weight("fc.w", self._state["_fc.weight"]), weight("fc.b", self._state["_fc.bias"])]
        x = self._add("GlobalAveragePool", [x], "pooled")
        x = self._add("Flatten", [x], "embedding", axis=1)
        x = self._add("Gemm", [x, "fc.w", "fc.b"], "logits", transB=1)
        self._add("Softmax", [x], "probabilities", axis=-1)

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def fold_batch_norm(
    state: dict[str, NDArray[Any]], convolution: str, norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias of one convolution that does what `convolution` followed by `norm` does."""
    gain = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + np.float32(EPSILON))
    kernel = state[f"{convolution}.weight"] * gain[:, None, None, None]
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return kernel.astype(np.float32), bias.astype(np.float32)
