"""Graph edits leave what a graph computes as it was."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper

from mien.zoo.convert.denormals import flush_tiny_weights
from mien.zoo.convert.dequantise import dequantise, fold_dequantised_weights
from mien.zoo.convert.graph import floats, serialise, tidy, weight, weights_of
from mien.zoo.convert.prelu import rewrite_prelu

RANDOM = np.random.default_rng(7)


def model_of(nodes: list, weights: list[TensorProto], channels: int = 6, opset: int = 17) -> ModelProto:
    shape = ["N", channels, "H", "W"]
    graph = helper.make_graph(nodes, "g", [floats("x", shape)], [floats("y", shape)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8 if opset < 19 else 10
    return model


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(serialise(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(graph: GraphProto) -> list[str]:
    return [node.op_type for node in graph.node]


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1)])
def test_prelu_as_convolutions_equals_prelu(shape):
    slopes = RANDOM.normal(size=shape).astype(np.float32)
    model = model_of([helper.make_node("PRelu", ["x", "a"], ["y"])], [weight("a", slopes)])
    x = RANDOM.normal(size=(3, 6, 8, 8)).astype(np.float32)
    before = run(model, x)
    rewrite_prelu(model.graph)
    tidy(model.graph)
    assert "PRelu" not in operators(model.graph)
    np.testing.assert_allclose(run(model, x), before, atol=1e-5, rtol=0)


def test_prelu_with_one_slope_for_all_channels_stays():
    model = model_of([helper.make_node("PRelu", ["x", "a"], ["y"])], [weight("a", np.float32([[[0.5]]]))])
    rewrite_prelu(model.graph)
    assert operators(model.graph) == ["PRelu"]


def test_folded_dequantisation_equals_onnx_runtimes():
    quantised = RANDOM.integers(-128, 128, (6, 6, 1, 1)).astype(np.int8)
    scale = RANDOM.random(6).astype(np.float32)
    zeros = RANDOM.integers(-5, 5, 6).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1]),
    ]
    model = model_of(nodes, [weight("q", quantised), weight("s", scale), weight("z", zeros)])
    x = RANDOM.normal(size=(2, 6, 4, 4)).astype(np.float32)
    before = run(model, x)
    fold_dequantised_weights(model.graph)
    tidy(model.graph)
    assert operators(model.graph) == ["Conv"]
    np.testing.assert_allclose(run(model, x), before, atol=1e-4, rtol=1e-5)


def test_blocks_share_a_scale_and_the_last_block_may_be_short():
    quantised = np.array([[2, 4, 6, 8, 10]], np.int8)
    scale, zeros = np.float32([[1, 10, 100]]), np.array([[0, 1, 2]], np.int8)
    found = dequantise(quantised, scale, zeros, axis=1, block_size=2)
    assert found.tolist() == [[2, 4, 50, 70, 800]]


def test_a_reshape_after_the_dequantisation_is_folded_too():
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["w"]),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]
    given = [weight("q", np.arange(6, dtype=np.int8)), weight("s", np.float32(2))]
    model = model_of(nodes, [*given, weight("shape", np.array([1, 6, 1, 1]))])
    fold_dequantised_weights(model.graph)
    tidy(model.graph)
    assert weights_of(model.graph)["w"].shape == (1, 6, 1, 1)
    assert run(model, np.ones((1, 6, 1, 1), np.float32)).ravel().tolist() == [0, 2, 4, 6, 8, 10]


def test_only_weights_that_cannot_matter_become_zero():
    model = model_of(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [weight("w", np.float32([1e-19, 1e-21, -1e-39, 0, 1, -1]).reshape(1, 6, 1, 1))],
    )
    assert flush_tiny_weights(model.graph) == 2
    assert weights_of(model.graph)["w"].ravel().tolist() == [np.float32(1e-19), 0, 0, 0, 1, -1]


def test_tidying_drops_inputs_that_are_weights_and_weights_that_nobody_uses():
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [weight("unused", np.float32([1]))])
    model.graph.input.extend([floats("unused", [1]), floats("dangling", [1])])
    tidy(model.graph)
    assert [value.name for value in model.graph.input] == ["x"]
    assert not model.graph.initializer
