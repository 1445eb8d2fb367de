"""Models with several inputs and other types than float32 share batches, each kind with its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.engine.batcher import Batcher, Lanes, ModelInput, Tensor
from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels
from mien.engine.plan import Plan


@pytest.fixture
def models() -> Iterator[LoadedModels]:
    models = LoadedModels(threads=1)
    yield models
    models.close()


def two_inputs(path: Path) -> Path:
    """A model of `a` and `b` [N, S] int64 whose output is their sum as float32."""
    a, b = (helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "S"]) for name in "ab")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", "S"])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Cast", ["sum"], ["out"], to=1)]
    graph = helper.make_graph(nodes, "sum", [a, b], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_feed_takes_a_batch_apart(models: LoadedModels, tmp_path: Path) -> None:
    model = models.load(
        "sum",
        two_inputs(tmp_path / "sum.onnx"),
        Plan(1, 1, 4),
        warm_up=(2, 3),
        dtype=np.int64,
        feed=lambda batch: {"a": batch[:, 0], "b": batch[:, 1]},
    )
    items = [np.array([[1, 2, 3], [10 * n, 0, 0]], np.int64) for n in range(4)]
    outputs = model.run(items, CancelScope(5))
    assert [output["out"].tolist() for output in outputs] == [[1 + 10 * n, 2, 3] for n in range(4)]
    assert model.run([np.ones((2, 7), np.int64)], CancelScope(5))[0]["out"].tolist() == [2.0] * 7


def test_items_of_different_types_never_share_a_batch() -> None:
    seen: list[np.dtype[np.generic]] = []

    def runner(batch: ModelInput) -> tuple[Tensor, ...]:
        seen.append(batch.dtype)
        return (batch.astype(np.float32),)

    batcher = Batcher(1, window=0.02)
    lanes = Lanes("m", [runner], threads=1, max_batch=8, stage=0)
    start = Barrier(2)

    def ask(item: ModelInput) -> int:
        start.wait()
        return len(batcher.run(lanes, [item, item], CancelScope(5)))

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(ask, [np.zeros(2, np.float32), np.zeros(2, np.int64)]))
    batcher.close()
    assert counts == [2, 2]
    assert sorted(str(dtype) for dtype in seen) == ["float32", "int64"]
