"""Scaling images down."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.vision.preprocessing import fit


def smooth(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 400))
def test_the_longest_side_fits_and_nothing_is_enlarged(height: int, width: int, side: int) -> None:
    resized, scale = fit(np.zeros((height, width, 3), np.uint8), side)
    assert min(resized.shape[:2]) >= 1
    assert max(resized.shape[:2]) == min(side, max(height, width))
    assert scale == min(1.0, side / max(height, width))


def test_an_image_that_fits_is_not_copied() -> None:
    image = smooth(50, 40)
    assert fit(image, 50)[0] is image


@pytest.mark.parametrize(("height", "width"), [(1, 2000), (2000, 1), (3, 1000)])
def test_thin_images_keep_at_least_one_pixel(height: int, width: int) -> None:
    assert sorted(fit(np.zeros((height, width, 3), np.uint8), 320)[0].shape[:2])[0] == 1


@pytest.mark.parametrize(("height", "width"), [(900, 716), (1281, 961), (3001, 2003)])
def test_the_fast_path_matches_area_interpolation(height: int, width: int) -> None:
    image = smooth(height, width)
    fast, _ = fit(image, 640)
    exact = cv2.resize(image, fast.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(fast.astype(int) - exact).mean() < 1


def test_fine_patterns_become_gray_and_no_false_pattern() -> None:
    stripes = np.zeros((2400, 2400, 3), np.uint8)
    stripes[:, ::2] = 255
    assert fit(stripes, 600)[0].std() < 2
