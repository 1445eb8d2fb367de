"""Images as model inputs."""

import numpy as np
import pytest

from mien.vision.tensor import to_tensor
from mien.zoo.manifest import Input

PICTURE = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_tensor_is_pixel_minus_mean_over_std_in_the_order_asked_for(channels: str, layout: str) -> None:
    spec = Input(name="x", channels=channels, layout=layout, mean=(1, 2, 3), std=(2, 4, 8))  # type: ignore[arg-type]
    padded = np.zeros((9, 8, 3), np.float32)
    padded[:7, :5] = PICTURE if channels == "bgr" else PICTURE[..., ::-1]
    expected = (padded - [1, 2, 3]) / [2, 4, 8]
    tensor = to_tensor(PICTURE, spec, 9, 8)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1) if layout == "nchw" else expected, rtol=1e-6)


def test_a_slot_of_a_batch_is_filled_in_place() -> None:
    batch = np.full((2, 3, 8, 8), -1, np.float32)
    assert to_tensor(PICTURE, Input(name="x"), 8, 8, batch[1]).base is batch
    np.testing.assert_array_equal(batch[1], to_tensor(PICTURE, Input(name="x"), 8, 8))
    assert (batch[0] == -1).all()


def test_a_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="5x7"):
        to_tensor(PICTURE, Input(name="x"), 6, 8)
