"""From an image to a model's input: shrinking, conversion to a tensor."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mien.vision.types import Array, Image
from mien.zoo.manifest import Input


def fit(image: Image, longest_side: int) -> tuple[Image, float]:
    """The image scaled so that its longest side is at most `longest_side` pixels, and the scale factor (≤ 1).

    Never enlarges: an image that fits is returned unchanged, without copying. Sides are at least 1.
    """
    rows, columns = image.shape[:2]
    scale = longest_side / max(rows, columns)
    if scale >= 1:
        return image, 1.0
    return shrink(image, max(1, round(rows * scale)), max(1, round(columns * scale))), scale


@dataclass(frozen=True, slots=True)
class Scaled:
    """An image at another size."""

    image: Image
    stretch: tuple[float, float]
    """Pixels of the original image per pixel of this one, x and y."""


def scaled(source: Scaled, height: int, width: int) -> Scaled:
    """The image at `height` × `width` pixels, shrunk or enlarged."""
    rows, columns = source.image.shape[:2]
    if (rows, columns) == (height, width):
        return source
    if height > rows or width > columns:
        x, y = source.stretch
        larger = _resized(source.image, height, width, cv2.INTER_LINEAR)
        return Scaled(larger, (x * columns / width, y * rows / height))
    steps = halvings(rows, columns, height, width)
    x, y = source.stretch
    stretch = x * (columns >> steps << steps) / width, y * (rows >> steps << steps) / height
    return Scaled(shrink(source.image, height, width), stretch)


def shrink(image: Image, height: int, width: int) -> Image:
    """Scale the image down without aliasing.

    Area interpolation by an arbitrary factor costs more than running the detector (36 ms for 12 megapixels), whereas
    OpenCV has a fast path for halving: halve while the result is large enough, then interpolate linearly by the
    remaining factor, at most 2.
    """
    steps = halvings(image.shape[0], image.shape[1], height, width)
    if not steps and max(image.shape[0] / height, image.shape[1] / width) > 2:
        return _resized(image, height, width, cv2.INTER_AREA)
    for _ in range(steps):
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = _resized(image[: rows * 2, : columns * 2], rows, columns, cv2.INTER_AREA)
    return _resized(image, height, width, cv2.INTER_LINEAR)


def halvings(rows: int, columns: int, height: int, width: int) -> int:
    """How often `shrink` halves. Odd rows and columns are dropped: the result covers `rows >> n << n` source rows."""
    steps = 0
    while rows >> (steps + 1) >= height and columns >> (steps + 1) >= width:
        steps += 1
    return steps


def to_tensor(image: Image, spec: Input, height: int, width: int) -> Array:
    """The image as `(pixel - mean) / std`, float32, in the layout of `spec`, without a batch axis.

    A smaller image is padded to `height` × `width` with black pixels on the right and at the bottom. Raises ValueError
    for a larger one.
    """
    rows, columns = image.shape[:2]
    if rows > height or columns > width:
        raise ValueError(f"a {columns}x{rows} image does not fit into a {width}x{height} input")
    planes = _planes(image, spec)
    shape = (len(planes), height, width) if spec.layout == "nchw" else (height, width, len(planes))
    tensor = np.empty(shape, np.float32)
    for channel, (source, mean, std) in enumerate(zip(planes, spec.mean, spec.std, strict=False)):
        plane = tensor[channel] if spec.layout == "nchw" else tensor[..., channel]
        _fill(plane, source, mean, std)
    return tensor


def _planes(image: Image, spec: Input) -> Sequence[np.ndarray]:
    """The channels in the model's order. Copying them one by one is 20× as fast as blobFromImage of OpenCV 5."""
    if spec.channels == "gray":
        return [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)]
    planes = cv2.split(image)
    return planes if spec.channels == "bgr" else planes[::-1]


def _resized(image: Image, height: int, width: int, interpolation: int) -> Image:
    result: Image = cv2.resize(image, (width, height), interpolation=interpolation)  # type: ignore[assignment]
    return result


def _fill(plane: Array, source: np.ndarray, mean: float, std: float) -> None:
    rows, columns = source.shape
    content = plane[:rows, :columns]
    np.copyto(content, source)
    if mean:
        content -= np.float32(mean)
    if std != 1:
        content *= np.float32(1 / std)
    black = -mean / std
    plane[rows:] = black
    plane[:rows, columns:] = black
