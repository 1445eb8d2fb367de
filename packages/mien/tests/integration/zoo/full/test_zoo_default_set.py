"""The real default models, from the shared cache of this machine; pulled first where they are missing."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from mien.errors import ModelUnavailable
from mien.settings import Settings
from mien.vision.align import align
from mien.vision.detectors import build_detector
from mien.vision.image import decode
from mien.vision.recognition import normalise, recogniser_tensor
from mien.vision.refine import CROP_SIDE, face_close_up, look_of
from mien.vision.types import Detections, Image
from mien.zoo.convert import convert
from mien.zoo.downloads import open_downloads
from mien.zoo.manifest import load_manifests
from mien.zoo.progress import Silent
from mien.zoo.sources import fetch
from mien.zoo.zoo import Zoo
from testing.tools import missing

PHOTOS = Path(__file__).parents[3] / "photos"
RANDOM = np.random.default_rng(11)
CONVERTED = ("yunet", "sface", "centerface", "efficientnet_lite0", "fr_feature", "mask", "fr_pose", "fr_landmark")


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    zoo = Zoo.from_settings(Settings())
    try:
        zoo.ensure_all(manifest.name for manifest in zoo.members("default"))
    except ModelUnavailable as error:
        missing(f"the default set, which cannot be pulled: {error},")
    return zoo


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The unconverted file of a model."""
    with open_downloads(tmp_path_factory.mktemp("downloads"), Silent()) as downloads:

        def original(name: str) -> Path:
            try:
                return fetch(load_manifests()[name].source, downloads)
            except ModelUnavailable as error:
                missing(f"what a model is made from, which cannot be pulled: {error},")

        yield original


def session_of(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, x: np.ndarray) -> list[np.ndarray]:
    return session.run(None, {session.get_inputs()[0].name: x})


@pytest.mark.parametrize("name", CONVERTED)
def test_converting_again_gives_the_recorded_bytes(zoo, originals, tmp_path, name):
    recipe = zoo.manifest(name).convert
    convert(recipe, originals(name), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == zoo.locate(name).read_bytes()


def test_converted_fr_feature_computes_what_the_original_does(zoo, originals):
    original, converted = session_of(originals("fr_feature")), session_of(zoo.locate("fr_feature"))
    x = RANDOM.uniform(-1, 1, (4, 3, 112, 112)).astype(np.float32)
    expected = np.concatenate([run(original, x[i : i + 1])[0] for i in range(4)])
    np.testing.assert_allclose(run(converted, x)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "shape"), [("fr_pose", (3, 224, 224)), ("fr_landmark", (1, 64, 64))])
def test_converted_models_of_the_head_compute_what_the_originals_do(zoo, originals, name, shape):
    original, converted = session_of(originals(name)), session_of(zoo.locate(name))
    x = RANDOM.uniform(-2, 2, (3, *shape)).astype(np.float32)
    expected = [np.concatenate(items) for items in zip(*(run(original, x[i : i + 1]) for i in range(3)), strict=True)]
    for found, wanted in zip(run(converted, x), expected, strict=False):  # roll is left out
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("yunet", (3, 3, 320, 256)),
        ("centerface", (3, 3, 256, 320)),
        ("sface", (3, 3, 112, 112)),
        ("fr_feature", (3, 3, 112, 112)),
        ("efficientnet_lite0", (3, 3, 224, 224)),
        ("mask", (3, 224, 224, 3)),
        ("fr_pose", (3, 3, 224, 224)),
        ("fr_landmark", (3, 1, 64, 64)),
    ],
)
def test_a_batch_computes_what_its_items_do_alone(zoo, name, shape):
    session = session_of(zoo.locate(name))
    spec = zoo.manifest(name).input
    x = ((RANDOM.integers(0, 256, shape) - spec.mean[0]) / spec.std[0]).astype(np.float32)
    together = run(session, x)
    alone = [run(session, x[i : i + 1]) for i in range(len(x))]
    for index, output in enumerate(together):
        # Bit-exact on the machine it was written on; other CPUs may choose other kernels for other batch sizes.
        np.testing.assert_allclose(output, np.concatenate([a[index] for a in alone]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [m.name for m in load_manifests().values() if "default" in m.sets and m.input])
def test_a_manifest_names_the_inputs_and_outputs_of_its_model(zoo, name):
    manifest, session = zoo.manifest(name), session_of(zoo.locate(name))
    assert [node.name for node in session.get_inputs()] == [manifest.input.name]
    assert set(manifest.outputs) == {node.name for node in session.get_outputs()}
    if manifest.task == "face_recognition":
        assert session.get_outputs()[0].shape == ["N", manifest.embedding_dim]


@pytest.mark.parametrize("name", ["fr_feature", "sface"])
def test_the_default_threshold_tells_the_persons_on_the_photographs_apart(zoo, name):
    recogniser, spec = session_of(zoo.locate(name)), zoo.manifest(name)
    crops = {
        path.stem: aligned(zoo, decode(path.read_bytes(), max_pixels=10**8, max_bytes=10**8))
        for path in sorted(PHOTOS.glob("*.jpg"))
    }
    raw = [run(recogniser, recogniser_tensor(crop, spec.input)[None])[0] for crop in crops.values()]
    vectors = dict(zip(crops, normalise(np.concatenate(raw))[0], strict=True))
    assert len(vectors) == 6
    for a, b in combinations(vectors, 2):
        same = a.startswith("person") and a[:-1] == b[:-1]
        assert (vectors[a] @ vectors[b] >= spec.same_threshold) == same, (a, b)


def aligned(zoo: Zoo, image: Image) -> Image:
    face = detect(zoo, image, 640, 0.6)
    crop = face_close_up(image, face.boxes[0], 0.0)
    look = look_of(detect(zoo, crop.image, CROP_SIDE, 0.5), crop, 0.0)
    return align(image, look.landmarks)


def detect(zoo: Zoo, image: Image, side: int, threshold: float) -> Detections:
    detector, session = build_detector(zoo.manifest("yunet")), session_of(zoo.locate("yunet"))
    prepared = detector.prepare(image, side)
    names = [node.name for node in session.get_outputs()]
    outputs = {name: value[0] for name, value in zip(names, run(session, prepared.tensor[None]), strict=True)}
    return detector.decode(outputs, prepared, threshold, 0.3, 10)


def test_the_labels_are_one_per_class(zoo):
    labels = json.loads(zoo.locate("imagenet_labels").read_bytes())
    assert len(labels) == 1000
    assert labels[0] == "tench"


def test_a_machine_without_npm_gets_npm_packages_all_the_same(zoo, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "env"):
        (tools / tool).symlink_to(shutil.which(tool) or os.devnull)
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("npm") is None
    elsewhere = Zoo(tmp_path / "cache" / "models", load_manifests())
    try:
        path = elsewhere.pull("fr_feature")
    except ModelUnavailable as error:
        missing(f"what a model is made from, which cannot be pulled: {error},")
    assert path.read_bytes() == zoo.locate("fr_feature").read_bytes()
    assert not list((tmp_path / "cache" / "downloads").glob("pull-*"))
