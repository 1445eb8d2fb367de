"""A zoo whose one model is a file on this machine."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.zoo.manifest import Manifest, Source
from mien.zoo.zoo import Zoo

WEIGHTS = b"not really a model, but a file with a hash"

MakeZoo = Callable[..., Zoo]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.onnx"
    path.write_bytes(WEIGHTS)
    return path


@pytest.fixture
def manifest_of(weights: Path) -> Callable[..., Manifest]:
    def make(name: str = "mine", source: Source | None = None, **fields: object) -> Manifest:
        given = source or Source(kind="file", path=str(weights), sha256=hashlib.sha256(WEIGHTS).hexdigest())
        usual: dict[str, object] = {
            "task": "labels", "family": "data", "title": "t", "licence": "research only", "credit": "c",
        }  # fmt: skip
        return Manifest(name=name, source=given, **{**usual, **fields})  # type: ignore[arg-type]

    return make


@pytest.fixture
def zoo_of(tmp_path: Path) -> MakeZoo:
    def make(*manifests: Manifest, offline: bool = False) -> Zoo:
        return Zoo(tmp_path / "cache" / "models", {m.name: m for m in manifests}, offline=offline)

    return make
