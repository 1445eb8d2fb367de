"""Images as model inputs."""

import numpy as np
import pytest

from mien.vision.preprocessing import to_tensor
from mien.zoo.manifest import Input

IMAGE = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_tensor_is_pixel_minus_mean_over_std_in_the_requested_order(channels: str, layout: str) -> None:
    spec = Input(name="x", channels=channels, layout=layout, mean=(1, 2, 3), std=(2, 4, 8))  # type: ignore[arg-type]
    padded = np.zeros((9, 8, 3), np.float32)
    padded[:7, :5] = IMAGE if channels == "bgr" else IMAGE[..., ::-1]
    expected = (padded - [1, 2, 3]) / [2, 4, 8]
    tensor = to_tensor(IMAGE, spec, 9, 8)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1) if layout == "nchw" else expected, rtol=1e-6)


def test_an_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="5x7"):
        to_tensor(IMAGE, Input(name="x"), 6, 8)
