"""The vision functions with the real models, on real photographs."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import ModelError
from mien.faces.refinement import LandmarkRefinement
from mien.settings import Settings
from mien.vision.align import align
from mien.vision.attributes import Attributes, build_attribute_reader
from mien.vision.detectors import build_detector
from mien.vision.image import decode
from mien.vision.recognition import normalise, recogniser_tensor
from mien.vision.types import Array, Detections, Image, Outputs
from mien.zoo.manifest import find, load_manifests
from mien.zoo.zoo import Zoo
from testing.tools import missing

PHOTOS = Path(__file__).parents[2] / "photos"
NAMES = ("impostor_1", "impostor_2", "person_a_1", "person_a_2", "person_b_1", "person_b_2")
SAME = {("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")}
MANIFESTS = load_manifests()

Run = Callable[[Array], Outputs]


@pytest.fixture(scope="module")
def load() -> Callable[[str], Run]:
    """A factory of functions that run one model on one item. Skips if the model is unavailable."""
    zoo = Zoo.from_settings(Settings())
    running: dict[str, Run] = {}

    def make(name: str) -> Run:
        if name not in running:
            running[name] = _session(zoo, name)
        return running[name]

    return make


def _session(zoo: Zoo, name: str) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        path = zoo.ensure(name)
    except ModelError as error:
        missing(f"the model {name} ({error.message})")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feed = session.get_inputs()[0].name

    def run(tensor: Array) -> Outputs:
        return {n: v[0] for n, v in zip(names, session.run(None, {feed: tensor[None]}), strict=True)}

    return run


def photo(name: str) -> Image:
    return decode((PHOTOS / f"{name}.jpg").read_bytes(), max_pixels=10**7, max_bytes=10**7)


def detect(load: Callable[[str], Run], name: str, image: Image, threshold: float) -> Detections:
    detector = build_detector(find(MANIFESTS, name))
    prepared = detector.prepare(image, 640)
    return detector.decode(load(name)(prepared.tensor), prepared, threshold, 0.3, 1024)


class Direct:
    """A model without lanes."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def run(self, tensors: Sequence[Array], scope: CancelScope) -> list[Outputs]:
        return [self._run(tensor) for tensor in tensors]


def landmarks(load: Callable[[str], Run], image: Image, found: Detections, index: int) -> Array:
    refinement = LandmarkRefinement(build_detector(find(MANIFESTS, "yunet")), Direct(load("yunet")), nms=0.3)
    return refinement.refine(image, found.take(np.array([index])), CancelScope(), rotate=True).landmarks[0]


def embedding(load: Callable[[str], Run], recogniser: str, image: Image) -> Array:
    found = detect(load, "yunet", image, 0.6)
    crop = align(image, landmarks(load, image, found, 0))
    spec = find(MANIFESTS, recogniser).input
    assert spec is not None
    raw = next(iter(load(recogniser)(recogniser_tensor(crop, spec)).values()))
    return normalise(raw[None])[0][0]


def cosines(load: Callable[[str], Run], recogniser: str) -> dict[tuple[str, str], float]:
    vectors = {name: embedding(load, recogniser, photo(name)) for name in NAMES}
    return {(a, b): float(vectors[a] @ vectors[b]) for a, b in combinations(NAMES, 2)}


@pytest.mark.parametrize(("detector", "threshold"), [("yunet", 0.6), ("centerface", 0.5)])
@pytest.mark.parametrize("name", NAMES)
def test_every_portrait_has_exactly_one_face(
    load: Callable[[str], Run], detector: str, threshold: float, name: str
) -> None:
    image = photo(name)
    found = detect(load, detector, image, threshold)
    assert len(found) == 1
    x1, y1, x2, y2 = found.boxes[0]
    assert 0 < x1 < x2 < image.shape[1]
    assert 0 < y1 < y2 < image.shape[0]
    left, right, nose, mouth_left, mouth_right = found.landmarks[0]
    assert left[0] < nose[0] < right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@pytest.mark.parametrize(("detector", "threshold"), [("yunet", 0.6), ("centerface", 0.5)])
def test_all_faces_of_a_collage_are_found(load: Callable[[str], Run], detector: str, threshold: float) -> None:
    tiles = [photo(name) for name in NAMES]
    collage = np.full((1900, 2400, 3), 128, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = divmod(index, 3)
        collage[y * 950 : y * 950 + tile.shape[0], x * 800 : x * 800 + tile.shape[1]] = tile
    found = detect(load, detector, collage, threshold)
    assert len(found) == len(NAMES)
    cells = {(int(y) // 950, int(x) // 800) for x, y in (found.boxes[:, :2] + found.boxes[:, 2:]) / 2}
    assert len(cells) == len(NAMES)


def test_refined_landmarks_stay_on_the_face_when_the_box_is_moved_a_little(load: Callable[[str], Run]) -> None:
    image = photo("person_b_1")
    found = detect(load, "yunet", image, 0.6)
    width = float(found.boxes[0, 2] - found.boxes[0, 0])
    moved = Detections(found.boxes + np.float32(0.03 * width), found.scores, found.landmarks, found.scales)
    once, again = landmarks(load, image, found, 0), landmarks(load, image, moved, 0)
    assert np.abs(once - found.landmarks[0]).max() < 0.1 * width
    assert np.abs(once - again).max() < 0.08 * width


@pytest.mark.parametrize("recogniser", ["fr_feature", "sface"])
def test_same_persons_are_alike_and_different_ones_are_not(load: Callable[[str], Run], recogniser: str) -> None:
    found = cosines(load, recogniser)
    threshold = find(MANIFESTS, recogniser).same_threshold
    assert threshold is not None
    assert all((cosine > threshold) == (pair in SAME) for pair, cosine in found.items()), found


def test_sface_gives_the_cosines_it_was_measured_with(load: Callable[[str], Run]) -> None:
    found = cosines(load, "sface")
    assert found["person_a_1", "person_a_2"] == pytest.approx(0.602, abs=0.03)
    assert found["person_b_1", "person_b_2"] == pytest.approx(0.777, abs=0.03)
    assert max(cosine for pair, cosine in found.items() if pair not in SAME) < 0.25


@pytest.mark.parametrize(("name", "male"), [("impostor_1", 1), ("person_a_2", 1), ("person_b_1", 0), ("person_b_2", 0)])
def test_gender_age_and_mask_are_read(load: Callable[[str], Run], name: str, male: int) -> None:
    image = photo(name)
    found = detect(load, "yunet", image, 0.6)
    points = landmarks(load, image, found, 0)

    def read(model: str) -> Attributes:
        reader = build_attribute_reader(find(MANIFESTS, model))
        return reader.decode(load(model)(reader.prepare(reader.crop(image, found.boxes[0], points))))

    assert read("gender").gender == male
    age = read("age").age
    assert age is not None
    assert 20 < age < 65
    assert read("mask").mask is False
