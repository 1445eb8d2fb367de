"""PyTorch files: numbers are read, anything else in the pickle is refused before it runs."""

import collections
import os
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mien.errors import ModelCorrupt
from mien.zoo.convert.torch_pickle import MAGIC, PROTOCOL, read_torch_weights


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value if isinstance(value, tuple) and value and value[0] == "storage" else None


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Just enough of torch to write its file format."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

    def _rebuild_tensor_v2(*given: object) -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)
    return torch


class Tensor:
    def __init__(self, torch: types.ModuleType, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.reference = ("storage", torch.FloatStorage, "0", "cpu", 6)
        self.shape, self.strides = shape, strides

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.reference, 0, self.shape, self.strides, False, collections.OrderedDict())


def write(path: Path, content: object) -> Path:
    with path.open("wb") as file:
        for part in (MAGIC, PROTOCOL, {}):
            pickle.dump(part, file, protocol=2)
        Pickler(file, protocol=2).dump(content)
        pickle.dump(["0"], file, protocol=2)
        file.write(struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes())
    return path


def test_tensors_are_read_with_their_strides(tmp_path, fake_torch):
    path = write(tmp_path / "w.pth", collections.OrderedDict(w=Tensor(fake_torch, (3, 2), (1, 3))))
    assert read_torch_weights(path)["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(("shape", "strides"), [((7,), (1,)), ((2, 2), (1, 6)), ((2,), (-1,))])
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, fake_torch, shape, strides):
    path = write(tmp_path / "w.pth", collections.OrderedDict(w=Tensor(fake_torch, shape, strides)))
    with pytest.raises(ModelCorrupt, match="outside"):
        read_torch_weights(path)


class Evil:
    def __init__(self, callable_: object, *given: object) -> None:
        self.reduced = callable_, given

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


@pytest.mark.parametrize("call", [os.system, eval, exec, __import__, getattr])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_nothing_runs(tmp_path, call):
    path = write(tmp_path / "w.pth", {"w": Evil(call, f"touch {tmp_path}/ran")})
    with pytest.raises(ModelCorrupt, match="which no file of weights needs"):
        read_torch_weights(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(1), pickle.dumps(MAGIC, 2)])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt):
        read_torch_weights(path)


def test_a_file_that_ends_early_is_refused(tmp_path, fake_torch):
    path = write(tmp_path / "w.pth", collections.OrderedDict(w=Tensor(fake_torch, (6,), (1,))))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelCorrupt, match="ends early"):
        read_torch_weights(path)
