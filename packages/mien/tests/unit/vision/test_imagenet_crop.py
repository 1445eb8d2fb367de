"""The centre crop for ImageNet models, and the ranking of classes."""

import numpy as np
import pytest

from mien.vision.imagenet import best_classes, central_square, imagenet_tensor
from mien.zoo.manifest import Input


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 900), (256, 256), (100, 80), (3001, 2000), (900, 903)])
def test_any_image_becomes_a_square(height: int, width: int) -> None:
    crop = central_square(np.full((height, width, 3), 77, np.uint8), 224)
    assert crop.shape == (224, 224, 3)
    assert (crop == 77).all()


@pytest.mark.parametrize("side", [256, 1024, 2048])
def test_the_square_is_the_centre_at_seven_eighths(side: int) -> None:
    image = np.zeros((side, side * 2, 3), np.uint8)
    edge = side // 16
    image[edge:-edge, side // 2 + edge : side * 3 // 2 - edge] = 255
    assert (central_square(image, 224) == 255).all()
    image[:] = 0
    image[:, : side // 2 + edge] = 255
    assert (central_square(image, 224) == 0).all()


def test_the_tensor_is_scaled_rgb() -> None:
    spec = Input(name="image", width=224, height=224, mean=(127.0,) * 3, std=(128.0,) * 3)
    image = np.zeros((50, 50, 3), np.uint8)
    image[..., 2] = 255  # red, in BGR
    tensor = imagenet_tensor(image, spec)
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor[:, 0, 0] == pytest.approx([1, -127 / 128, -127 / 128])


def test_classes_are_ranked_and_equals_keep_their_order() -> None:
    classes, scores = best_classes(np.array([0.1, 0.4, 0.1, 0.4], np.float32), 3)
    assert classes.tolist() == [1, 3, 0]
    assert scores.tolist() == pytest.approx([0.4, 0.4, 0.1])
