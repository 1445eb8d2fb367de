"""Quality: a number from 0 to 1 that falls with every sign of damage."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.vision.align import ARCFACE_TEMPLATE
from mien.vision.quality import (
    CALIBRATIONS,
    OTHER,
    Calibration,
    Signs,
    calibration_of,
    probability,
    quality_of,
    sharpness_of,
    signs_of,
)

GOOD = Signs(norm=4.0, size=0.0, sharpness=0.3, roll=0.0)
ALL = [*CALIBRATIONS.values(), OTHER]


def crop() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 255, (28, 28), np.uint8)
    return cv2.cvtColor(cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)


@pytest.mark.parametrize("calibration", ALL)
@pytest.mark.parametrize(
    ("sign", "worse"),
    [
        ("norm", (3.0, 2.0, 1.0, 0.0)),
        ("size", (-0.5, -1.0, -3.0)),
        ("sharpness", (-0.5, -2.0)),
        ("roll", (30, 90, 180)),
    ],
)
def test_no_sign_of_damage_raises_it(calibration: Calibration, sign: str, worse: tuple[float, ...]) -> None:
    values = [probability(calibration, replace(GOOD, **{sign: value})) for value in worse]
    assert [probability(calibration, GOOD), *values] == sorted([probability(calibration, GOOD), *values], reverse=True)


@pytest.mark.parametrize("calibration", ALL)
def test_it_stays_between_0_and_1(calibration: Calibration) -> None:
    for signs in (Signs(1e6, 0, 50, 0), Signs(0, -1e6, -1e6, 180)):
        assert 0 <= probability(calibration, signs) <= 1


def test_each_recogniser_has_its_own_scale_and_unknown_ones_none() -> None:
    assert calibration_of("fr_feature") is CALIBRATIONS["fr_feature"]
    assert calibration_of("mine") is OTHER
    assert OTHER.norm == 0


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    sharp = crop()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 6)
    pale = (sharp.astype(np.float32) * 0.5 + 60).astype(np.uint8)
    assert sharpness_of(blurred) < sharpness_of(sharp) - 1
    assert sharpness_of(pale) == pytest.approx(sharpness_of(sharp), abs=0.02)


def test_a_plain_crop_has_a_quality() -> None:
    assert 0 <= quality_of(OTHER, np.zeros((112, 112, 3), np.uint8), ARCFACE_TEMPLATE, 0.0) < 0.5


def test_size_counts_below_24_pixels_across_the_crop() -> None:
    assert signs_of(crop(), ARCFACE_TEMPLATE, 4.0).size == 0
    assert signs_of(crop(), ARCFACE_TEMPLATE / 112 * 24, 4.0).size == pytest.approx(0, abs=1e-3)
    assert signs_of(crop(), ARCFACE_TEMPLATE / 112 * 12, 4.0).size == pytest.approx(-1, abs=1e-3)


def test_landmarks_that_coincide_do_no_harm() -> None:
    assert np.isfinite(quality_of(OTHER, crop(), np.zeros((5, 2), np.float32), 3.0))
