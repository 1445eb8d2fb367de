"""ONNX files with the shapes of models that tests cannot download; what they answer is simple and known."""

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper, save

STRIDES = (8, 16, 32)
FACE_CELLS = 8
"""Side of the face that a stride finds, in cells: 64, 128 and 256 pixels."""
LANDMARKS = np.array([[-1.4, -1.0], [1.4, -1.0], [0.0, 0.2], [-1.0, 1.8], [1.0, 1.8]], np.float32)
"""Of a found face, from its centre, in cells."""


def scrfd(path: Path, *, ndim: int = 2) -> Path:
    """A SCRFD that finds white squares on black: input `input.1` [N, 3, H, W] RGB (x - 127.5) / 128, nine outputs.

    A square of 64, 128 or 256 pixels whose centre lies on a multiple of 8, 16 or 32 is one face with score 1;
    its box is the square, its landmarks are `LANDMARKS` times the stride around the centre. `ndim` 2: outputs [A, C]
    without a batch axis, as in InsightFace's packs; 3: [N, A, C].
    """
    graph = _Graph()
    graph.add("ReduceMean", ["input.1", graph.ints("channels", [1])], "grey", keepdims=1)
    for stride in STRIDES:
        graph.scrfd_level(stride, ndim)
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
    batch: list[int | str] = ["N"] if ndim == 3 else []
    outputs = {
        name: [*batch, f"anchors_{name}", columns]
        for name, columns in zip(names, (1,) * 3 + (4,) * 3 + (10,) * 3, strict=True)
    }
    return graph.write(path, {"input.1": ["N" if ndim == 3 else 1, 3, "H", "W"]}, outputs)


def arcface(path: Path, dim: int = 512) -> Path:
    """A recogniser: `input.1` [N, 3, 112, 112] to `683` [N, dim]: a fixed projection of an 8 x 8 thumbnail."""
    graph = _Graph()
    projection = np.random.default_rng(112).standard_normal((192, dim)).astype(np.float32)
    graph.add("AveragePool", ["input.1"], "thumbnail", kernel_shape=[14, 14], strides=[14, 14])
    graph.add("Flatten", ["thumbnail"], "flat", axis=1)
    graph.add("MatMul", ["flat", graph.weight("projection", projection)], "683")
    return graph.write(path, {"input.1": ["N", 3, 112, 112]}, {"683": ["N", dim]})


def genderage(path: Path) -> Path:
    """`data` [N, 3, 96, 96] RGB 0..255 to `fc1` [N, 3]: 1 - red (female), red (male), blue (age / 100)."""
    graph = _Graph()
    graph.add("GlobalAveragePool", ["data"], "means")
    graph.add("Flatten", ["means"], "colours", axis=1)
    mixed = np.array([[-1, 1, 0], [0, 0, 0], [0, 0, 1]], np.float32) / 255
    offset = graph.weight("offset", np.array([1, 0, 0], np.float32))
    graph.add("Gemm", ["colours", graph.weight("mix", mixed), offset], "fc1")
    return graph.write(path, {"data": ["N", 3, 96, 96]}, {"fc1": ["N", 3]})


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))  # type: ignore[arg-type]
        return output

    def weight(self, name: str, values: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, name: str, values: list[int]) -> str:
        return self.weight(name, np.array(values, np.int64))

    def scrfd_level(self, stride: int, ndim: int) -> None:
        face = FACE_CELLS * stride
        inner, outer = self._window(stride, face), self._window(stride, 2 * face)
        # A square of the right size at the right place: inner 1, outer -0.5. Anything else is less.
        self.add("Sub", [inner, outer], f"contrast_{stride}")
        scaled = self.add(
            "Mul",
            [f"contrast_{stride}", self.weight(f"gain_{stride}", np.float32([128 / 127.5 * 2 / 1.5]))],
            f"gained_{stride}",
        )
        shifted = self.add("Sub", [scaled, self.weight(f"one_{stride}", np.float32([1]))], f"shifted_{stride}")
        limits = [self.weight(f"{n}_{stride}", np.array(v, np.float32)) for n, v in (("low", 0), ("high", 1))]
        cells = self.add("Clip", [shifted, *limits], f"cells_{stride}")
        last = self.add("Transpose", [cells], f"last_{stride}", perm=[0, 2, 3, 1])
        none = self.add("Mul", [last, self.weight(f"zero_{stride}", np.float32([0]))], f"second_{stride}")
        anchors = self.add("Concat", [last, none], f"anchors_{stride}", axis=3)
        shape = self.ints(f"shape_{stride}", [0, -1, 1] if ndim == 3 else [-1, 1])
        score = self.add("Reshape", [anchors, shape], f"score_{stride}")
        blank = self.add("Mul", [score, f"zero_{stride}"], f"blank_{stride}")
        reach = np.full((1, 4), FACE_CELLS / 2, np.float32)
        self.add("Add", [blank, self.weight(f"reach_{stride}", reach)], f"bbox_{stride}")
        self.add("Add", [blank, self.weight(f"points_{stride}", LANDMARKS.reshape(1, 10))], f"kps_{stride}")

    def _window(self, stride: int, side: int) -> str:
        """Mean of the `side` pixels around each cell's corner; what lies outside of the image is black."""
        name = f"window_{stride}_{side}"
        pads = self.ints(f"{name}_pads", [0, 0, side // 2, side // 2, 0, 0, side // 2 - stride, side // 2 - stride])
        black = self.weight(f"{name}_black", np.array(-127.5 / 128, np.float32))
        self.add("Pad", ["grey", pads, black], f"{name}_padded")
        return self.add("AveragePool", [f"{name}_padded"], name, kernel_shape=[side] * 2, strides=[stride] * 2)

    def write(self, path: Path, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]) -> Path:
        values = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in named.items()]
            for named in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, path.stem, *values, self._weights)
        model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 8
        checker.check_model(model, full_check=True)
        save(model, str(path))
        return path
