"""What the outputs of the models of pose and of 68 landmarks mean."""

import numpy as np
import pytest

from mien.errors import ManifestInvalid, ModelError
from mien.vision.landmarks_68 import MIRRORED, Landmarks68, build_landmarks_68
from mien.vision.pose import HopenetPose, build_pose_reader
from mien.zoo.manifest import Manifest, load_manifests

MANIFESTS = load_manifests()
IMAGE = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
BOX = np.array([60, 50, 140, 150], np.float32)
LEVEL = np.array([[80, 85], [120, 85], [100, 105], [85, 125], [115, 125]], np.float32)


def pose() -> HopenetPose:
    return build_pose_reader(MANIFESTS["fr_pose"])


def landmarks() -> Landmarks68:
    return build_landmarks_68(MANIFESTS["fr_landmark"])


def bins(degrees: float) -> np.ndarray:
    """Logits of a model that is certain."""
    logits = np.full(66, -100, np.float32)
    logits[round((degrees + 99) / 3)] = 100
    return logits


def test_an_angle_is_the_expected_value_over_the_bins() -> None:
    seen = {"yaw": bins(30), "pitch": bins(-12)}
    mirrored = {"yaw": bins(-30), "pitch": bins(-12)}
    assert pose().decode(seen, mirrored) == pytest.approx((30, -12), abs=1e-3)


def test_a_bias_to_one_side_cancels_out() -> None:
    seen = {"yaw": bins(6), "pitch": bins(0)}
    assert pose().decode(seen, seen)[0] == pytest.approx(0, abs=1e-3)


def test_the_head_is_prepared_straight_and_mirrored() -> None:
    straight, mirrored = pose().prepare(pose().crop(IMAGE, BOX, LEVEL))
    assert straight.shape == (3, 224, 224)
    assert straight.dtype == np.float32
    np.testing.assert_array_equal(straight[:, :, ::-1], mirrored)


def test_landmarks_are_made_of_one_grey_channel() -> None:
    straight, _ = landmarks().prepare(landmarks().first(IMAGE, BOX, LEVEL))
    assert straight.shape == (1, 64, 64)
    assert 0 <= straight.min() < straight.max() < 1


def test_mirroring_twice_leads_back() -> None:
    assert MIRRORED[MIRRORED].tolist() == list(range(68))


def test_the_mean_of_a_face_and_its_mirror_image_is_the_face() -> None:
    points = np.random.default_rng(2).uniform(0.2, 0.8, (68, 2)).astype(np.float32)
    mirrored = points[MIRRORED] * [-1, 1] + [63 / 64, 0]
    found = landmarks().decode({"output": points.reshape(-1)}, {"output": mirrored.reshape(-1)})
    np.testing.assert_allclose(found, points * 64, atol=1e-4)


def test_the_second_look_is_centred_on_the_landmarks_of_the_first() -> None:
    reader = landmarks()
    first = reader.first(IMAGE, BOX, LEVEL)
    points = np.random.default_rng(3).uniform(20, 40, (68, 2)).astype(np.float32)
    second = reader.second(IMAGE, first, points, 0.0)
    middle = first.to_source((points.min(0) + points.max(0)) / 2)
    np.testing.assert_allclose(second.to_source(np.array([32, 32])), middle, atol=1e-3)


def test_outputs_of_another_model_are_an_error() -> None:
    with pytest.raises(ModelError, match="5 numbers, expected 66"):
        pose().decode({"yaw": np.zeros(5, np.float32), "pitch": bins(0)}, {"yaw": bins(0), "pitch": bins(0)})
    with pytest.raises(ModelError, match="not those of a pose model"):
        pose().decode({"a": bins(0)}, {"a": bins(0)})
    with pytest.raises(ModelError, match="10 numbers, expected 136"):
        landmarks().decode({"output": np.zeros(10, np.float32)}, {"output": np.zeros(10, np.float32)})


def test_other_families_are_refused() -> None:
    with pytest.raises(ManifestInvalid, match="hopenet"):
        build_pose_reader(MANIFESTS["mask"])
    with pytest.raises(ManifestInvalid, match="landmarks_68"):
        build_landmarks_68(MANIFESTS["fr_pose"])


def test_a_manifest_without_a_square_input_is_refused() -> None:
    def without_input(name: str) -> Manifest:
        import msgspec

        return msgspec.structs.replace(MANIFESTS[name], input=None)

    with pytest.raises(ManifestInvalid, match="square"):
        build_pose_reader(without_input("fr_pose"))
    with pytest.raises(ManifestInvalid, match="square"):
        build_landmarks_68(without_input("fr_landmark"))
