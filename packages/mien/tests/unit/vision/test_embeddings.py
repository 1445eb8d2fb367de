"""Recogniser inputs, unit vectors and their similarity."""

import numpy as np
import pytest

from mien.errors import ImageError
from mien.vision.recognition import cosine_similarity, normalise, recogniser_tensor
from mien.zoo.manifest import Input

SPEC = Input(name="x", width=112, height=112, channels="bgr", mean=(127.5,) * 3, std=(128.0,) * 3)


def test_an_aligned_crop_becomes_the_recognisers_input() -> None:
    tensor = recogniser_tensor(np.full((112, 112, 3), 255, np.uint8), SPEC)
    assert tensor.shape == (3, 112, 112)
    assert np.allclose(tensor, 127.5 / 128)


def test_a_crop_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ImageError, match="112x112 pixels; this image is 100x112"):
        recogniser_tensor(np.zeros((112, 100, 3), np.uint8), SPEC)


def test_vectors_are_normalised_and_their_length_returned() -> None:
    unit, norms = normalise(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(norms, [5, 0])
    assert unit.dtype == norms.dtype == np.float32


def test_values_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ValueError, match="finite"):
        normalise(np.array([[np.nan, 1]], np.float32))


def test_similarity_is_a_matrix_of_cosines() -> None:
    a = np.eye(3, dtype=np.float32)[:2]
    np.testing.assert_array_equal(cosine_similarity(a, -a), -np.eye(2))
    assert cosine_similarity(a, a[:0]).shape == (2, 0)
    with pytest.raises(ValueError, match="3 and 2 numbers"):
        cosine_similarity(a, a[:, :2])
