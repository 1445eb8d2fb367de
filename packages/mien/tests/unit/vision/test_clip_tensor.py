"""How images become inputs of a CLIP: whatever their shape, within bounds of time and memory."""

import tracemalloc

import numpy as np
import pytest

from mien.vision import clip
from mien.vision.clip import clip_tensor, label_scores
from mien.zoo.manifest import Input, Similarity

CROP = Input(name="x", width=96, height=96, mean=(127.5,) * 3, std=(127.5,) * 3)
SQUASH = Input(name="x", width=96, height=96, fit="squash", interpolation="bilinear")


@pytest.mark.parametrize("spec", [CROP, SQUASH], ids=["crop", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30000), (30000, 1), (97, 95), (2, 300)])
def test_every_shape_becomes_the_input(spec: Input, shape: tuple[int, int]) -> None:
    tracemalloc.start()
    found = clip_tensor(np.full((*shape, 3), 200, np.uint8), spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (3, 96, 96)
    assert found.dtype == np.float32
    assert np.ptp(found) < 1e-6
    assert peak < 20e6


def test_the_part_alone_is_scaled_as_it_is_within_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 700, 3), np.uint8)
    whole = clip_tensor(image, CROP)
    monkeypatch.setattr(clip, "MAX_ASPECT", 1)
    part = clip_tensor(image, CROP)
    assert np.abs(whole - part).max() < 2.1 / 127.5  # a level or two: the scale is not rounded to whole pixels


def test_channels_are_red_green_blue() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[..., 2] = 255  # red, in OpenCV's order
    assert clip_tensor(image, SQUASH)[:, 0, 0].tolist() == [255, 0, 0]


def test_scores_are_a_softmax_or_sigmoids_and_never_overflow() -> None:
    image, texts = np.array([1, 0], np.float32), np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    shares = label_scores(image, texts, Similarity(scale=1e4))
    assert shares.tolist() == [1, 0, 0]
    each = label_scores(image, texts, Similarity(scale=1e4, bias=0.0))
    assert each.tolist() == pytest.approx([1, 0, 0.5])
