"""The face models that come with Mien: used without a pull, after the cache's, and never unverified."""

import hashlib
from pathlib import Path

import pytest

from mien.errors import ModelCorrupt, ModelUnavailable
from mien.zoo.manifest import Source, load_manifests
from mien.zoo.zoo import Zoo

NOWHERE = Source(kind="file", path="/nowhere/model.onnx")


@pytest.mark.parametrize("name", ["yunet", "fr_feature"])
def test_a_default_face_model_is_here_without_a_pull(tmp_path: Path, name: str) -> None:
    zoo = Zoo(tmp_path / "models", load_manifests(), offline=True)
    path = zoo.locate(name)
    assert path == zoo.ensure(name) == zoo.pull(name) == zoo.ensure_all([name])[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == zoo.manifest(name).bundled
    assert zoo.record(name) is None


def test_no_other_model_comes_along() -> None:
    assert [m.name for m in load_manifests().values() if m.bundled] == ["fr_feature", "yunet"]


def test_what_was_pulled_goes_before_what_came_along(zoo_of, manifest_of) -> None:
    ours = load_manifests()["yunet"]
    zoo = zoo_of(manifest_of("yunet", bundled=ours.bundled))
    assert zoo.locate("yunet").parent.name == "bundled"
    pulled = zoo.pull("yunet", force=True)
    assert pulled.parent.name != "bundled"
    assert zoo.locate("yunet") == pulled


def test_a_file_of_another_hash_is_refused(zoo_of, manifest_of) -> None:
    with pytest.raises(ModelCorrupt, match="mien models pull yunet --force"):
        zoo_of(manifest_of("yunet", bundled="0" * 64)).locate("yunet")


def test_a_user_s_own_manifest_of_the_name_does_not_get_it(zoo_of, manifest_of) -> None:
    with pytest.raises(ModelUnavailable):
        zoo_of(manifest_of("yunet", source=NOWHERE)).locate("yunet")
