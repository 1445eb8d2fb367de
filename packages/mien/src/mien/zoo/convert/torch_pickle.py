"""Weights from PyTorch's first file format (before 1.6), without PyTorch and without trusting the pickle.

The file is five pickles (magic number, protocol, system, tensors by name, storage keys), then the storages'
raw numbers. Only names that such a file needs are looked up; a pickle that names anything else is refused.
"""

import collections
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelCorrupt

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES: dict[str, type[np.generic]] = {"FloatStorage": np.float32, "LongStorage": np.int64}


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: type[np.generic]


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, numbers: NDArray[Any]) -> NDArray[Any]:
        size = numbers.itemsize
        strides = tuple(stride * size for stride in self.strides)
        last = sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        if self.offset < 0 or min(self.shape, default=1) < 1 or last < 0 or self.offset + last >= len(numbers):
            raise ModelCorrupt("a tensor of the PyTorch file lies outside of its storage")
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return view.copy()


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class AllowListedUnpickler(pickle.Unpickler):
    """Looks up nothing but what a file of tensors needs. Raises ModelCorrupt for any other name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ModelCorrupt(f"the PyTorch file asks for {module}.{name}, which no file of weights needs") from None

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, *_ = reference
        if kind != "storage" or dtype not in STORAGES.values():
            raise ModelCorrupt("the PyTorch file refers to something other than numbers")
        return _Storage(str(key), dtype)


def read_torch_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of the file at `path` by name. Raises ModelCorrupt when it is no such file."""
    with path.open("rb") as file:
        try:
            tensors, keys = _read_structure(file)
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
            raise ModelCorrupt("this is no PyTorch file of the kind written before 1.6") from error
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        numbers = {key: _read_storage(file, dtypes[key]) for key in keys if key in dtypes}
    return {name: tensor.read(numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_structure(file: IO[bytes]) -> tuple[dict[str, _Tensor], list[str]]:
    magic, protocol, _system = (AllowListedUnpickler(file).load() for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise ValueError("wrong magic number")
    tensors = AllowListedUnpickler(file).load()
    keys = AllowListedUnpickler(file).load()
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, _Tensor)}, keys


def _read_storage(file: IO[bytes], dtype: type[np.generic]) -> NDArray[Any]:
    header = file.read(8)
    if len(header) != 8:
        raise ModelCorrupt("the PyTorch file ends early")
    (count,) = struct.unpack("<q", header)
    data = file.read(count * np.dtype(dtype).itemsize) if count >= 0 else b""
    if count < 0 or len(data) != count * np.dtype(dtype).itemsize:
        raise ModelCorrupt("the PyTorch file ends early")
    return np.frombuffer(data, dtype)
