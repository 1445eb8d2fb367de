"""Detectors: known faces are encoded as model outputs, and must be decoded again."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from mien.errors import ManifestInvalid, ModelError
from mien.vision.detectors import Detector, Prepared, build_detector
from mien.vision.types import Outputs
from mien.zoo.manifest import Manifest, Source

STRIDES = (8, 16, 32)
SCORES = np.array([0.9, 0.8, 0.7], np.float32)
BOXES = np.array([[40, 30, 72, 70], [120, 60, 200, 160], [250, 20, 262, 35]], np.float32)
FACTORS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
LANDMARKS = BOXES[:, None, :2] + FACTORS * (BOXES[:, None, 2:] - BOXES[:, None, :2])
CENTRES = (BOXES[:, :2] + BOXES[:, 2:]) / 2
SIZES = BOXES[:, 2:] - BOXES[:, :2]


def manifest(family: str) -> Manifest:
    return Manifest(
        name=family,
        task="face_detection",
        family=family,
        title="",
        licence="",
        credit="",  # type: ignore[arg-type]
        source=Source(kind="file"),
    )


def yunet_outputs(height: int, width: int) -> Outputs:
    out: Outputs = {}
    for s in STRIDES:
        cells = (height // s) * (width // s)
        for name, fields in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            out[f"{name}_{s}"] = np.zeros((cells, fields), np.float32)
    for face, s in enumerate(STRIDES):
        cell = (CENTRES[face] // s).astype(int)
        at = cell[1] * (width // s) + cell[0]
        out[f"cls_{s}"][at] = SCORES[face]
        out[f"obj_{s}"][at] = SCORES[face]
        out[f"bbox_{s}"][at] = [*(CENTRES[face] / s - cell), *np.log(SIZES[face] / s)]
        out[f"kps_{s}"][at] = (LANDMARKS[face] / s - cell).reshape(-1)
    return out


def centerface_outputs(height: int, width: int) -> Outputs:
    h, w = height // 4, width // 4
    heat, size, offset, points = (np.zeros((c, h, w), np.float32) for c in (1, 2, 2, 10))
    for face in range(len(BOXES)):
        x, y = (CENTRES[face] // 4).astype(int)
        heat[0, y, x] = SCORES[face]
        size[:, y, x] = np.log(SIZES[face] / 4)[::-1]
        offset[:, y, x] = (CENTRES[face] / 4 - 0.5 - [x, y])[::-1]
        points[:, y, x] = FACTORS[:, ::-1].reshape(-1)
    return {"537": heat, "538": size, "539": offset, "540": points}


def scrfd_outputs(height: int, width: int) -> Outputs:
    out: Outputs = {}
    for fields in (1, 4, 10):
        for s in STRIDES:
            out[f"{fields}/{s}"] = np.zeros((2 * (height // s) * (width // s), fields), np.float32)
    for face, s in enumerate(STRIDES):
        cell = (CENTRES[face] // s).astype(int)
        at = 2 * (cell[1] * (width // s) + cell[0]) + face % 2
        corner = cell * s
        out[f"1/{s}"][at] = SCORES[face]
        out[f"4/{s}"][at] = np.concatenate((corner - BOXES[face, :2], BOXES[face, 2:] - corner)) / s
        out[f"10/{s}"][at] = ((LANDMARKS[face] - corner) / s).reshape(-1)
    return out


ENCODERS: dict[str, Callable[[int, int], Outputs]] = {
    "yunet": yunet_outputs,
    "centerface": centerface_outputs,
    "scrfd": scrfd_outputs,
}


@pytest.fixture(params=ENCODERS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return build_detector(manifest(request.param))


def encoded(detector: Detector, prepared: Prepared) -> Outputs:
    return ENCODERS[detector.name](*prepared.tensor.shape[1:])


def image(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_known_faces_come_back_best_first(detector: Detector) -> None:
    prepared = detector.prepare(image(180, 300), 640)
    assert prepared.tensor.shape == (3, 192, 320)
    found = detector.decode(encoded(detector, prepared), prepared, 0.5, 0.3, 100)
    np.testing.assert_allclose(found.scores, SCORES, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, BOXES, atol=1e-3)
    np.testing.assert_allclose(found.landmarks, LANDMARKS, atol=1e-3)


def test_faces_are_in_pixels_of_the_source(detector: Detector) -> None:
    prepared = detector.prepare(image(721, 1203), 300)
    assert prepared.scale == 300 / 1203
    found = detector.decode(encoded(detector, prepared), prepared, 0.5, 0.3, 100)
    np.testing.assert_allclose(found.boxes, BOXES * 4.01, rtol=0.01)


def test_threshold_and_limit_hold(detector: Detector) -> None:
    prepared = detector.prepare(image(180, 300), 640)
    outputs = encoded(detector, prepared)
    assert len(detector.decode(outputs, prepared, 0.75, 0.3, 100)) == 2
    assert len(detector.decode(outputs, prepared, 0.5, 0.3, 1)) == 1
    assert len(detector.decode(outputs, prepared, 0.95, 0.3, 100)) == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (1, 2000), (2000, 1), (31, 33)])
def test_degenerate_images_are_inputs_too(detector: Detector, height: int, width: int) -> None:
    prepared = detector.prepare(image(height, width), 640)
    assert not any(side % 32 for side in prepared.tensor.shape[1:])
    assert prepared.tensor.shape[1] >= prepared.height >= 1
    empty = {name: np.zeros_like(array) for name, array in _empty(detector, prepared).items()}
    assert len(detector.decode(empty, prepared, 0.5, 0.3, 10)) == 0


def _empty(detector: Detector, prepared: Prepared) -> Outputs:
    height, width = prepared.tensor.shape[1:]
    larger = ENCODERS[detector.name](512, 512)
    if detector.name == "centerface":
        return {name: array[:, : height // 4, : width // 4] for name, array in larger.items()}
    anchors = 2 if detector.name == "scrfd" else 1
    strides = [int(name.replace("/", "_").split("_")[1]) for name in larger]
    return {
        name: array[:1].repeat(anchors * (height // s) * (width // s), 0)
        for s, (name, array) in zip(strides, larger.items(), strict=True)
    }


def test_a_threshold_of_zero_takes_no_seconds(detector: Detector) -> None:
    prepared = detector.prepare(image(1280, 1280), 1280)
    rng = np.random.default_rng(0)
    outputs = {
        name: rng.uniform(0, 1, array.shape).astype(np.float32) for name, array in _full(detector.name, 1280).items()
    }
    started = time.thread_time()
    found = detector.decode(outputs, prepared, 0.0, 0.3, 1024)
    assert time.thread_time() - started < 2
    assert 0 < len(found) <= 1024


def _full(name: str, side: int) -> Outputs:
    return ENCODERS[name](side, side)


def test_damaged_outputs_stay_finite(detector: Detector) -> None:
    prepared = detector.prepare(image(180, 300), 640)
    outputs = {name: array + np.float32(500) for name, array in encoded(detector, prepared).items()}
    assert np.isfinite(detector.decode(outputs, prepared, 0.5, 0.3, 10).boxes).all()


def test_outputs_of_another_model_are_an_error_that_names_the_model(detector: Detector) -> None:
    prepared = detector.prepare(image(64, 64), 640)
    with pytest.raises(ModelError, match=detector.name):
        detector.decode({"other": np.zeros((3, 3), np.float32)}, prepared, 0.5, 0.3, 10)


def test_a_fixed_input_size_is_padded_to() -> None:
    spec = build_detector(manifest("scrfd")).input  # type: ignore[attr-defined]
    import msgspec

    fixed = build_detector(
        msgspec.structs.replace(manifest("scrfd"), input=msgspec.structs.replace(spec, width=640, height=640))
    )
    prepared = fixed.prepare(image(180, 1300), 1280)
    assert prepared.tensor.shape == (3, 640, 640)
    assert prepared.tensor[0, -1, -1] == np.float32(-127.5 / 128)


def test_other_families_are_rejected_as_detectors() -> None:
    with pytest.raises(ManifestInvalid, match="arcface"):
        build_detector(manifest("arcface"))
