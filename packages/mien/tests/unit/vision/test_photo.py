"""No more pixels of a photo are decoded than are needed, and what is found in fewer lies where it lies in all."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageTooLarge, ImageTruncated
from mien.vision.image import decode
from mien.vision.photo import USUAL_SIDE, Photo, View
from mien.vision.types import Array, Image

WIDTH, HEIGHT = 4003, 2006
SPOTS = np.array([[400, 300], [3600, 1700], [2000, 1000], [3900, 120]], np.float32)


def picture() -> Image:
    """White spots of different sizes on a dark ground."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for size, (x, y) in enumerate(SPOTS, 2):
        cv2.circle(pixels, (int(x), int(y)), 12 * size, (255, 255, 255), -1)
    return pixels


def encoded(orientation: int = 1, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """The picture, stored in such a way that it is upright with this orientation."""
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)
    exif = PilImage.Exif()
    exif[0x0112] = back
    from PIL import ImageOps

    first = PilImage.fromarray(picture()).convert(mode)
    first.info["exif"] = exif.tobytes()
    first.getexif()[0x0112] = back
    stored = ImageOps.exif_transpose(first)
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, kind, exif=exif.tobytes(), **options)  # type: ignore[arg-type]
    return file.getvalue()


def opened(data: bytes) -> Photo:
    return Photo.open(data, max_pixels=None, max_bytes=1 << 25)


def centres(pixels: Image) -> Array:
    """Of the white spots, in the order of their sizes."""
    _, _, stats, found = cv2.connectedComponentsWithStats((pixels[..., 0] > 150).astype(np.uint8))
    return found[1:][np.argsort(stats[1:, cv2.CC_STAT_AREA])].astype(np.float32)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encoded()


@pytest.mark.parametrize(("scale", "factor"), [(1, 1), (0.51, 1), (0.5, 2), (0.3, 2), (0.1, 2)])
def test_a_view_has_the_pixels_that_are_asked_for_and_not_many_more(photo: bytes, scale: float, factor: int) -> None:
    view = opened(photo).view(scale)
    assert view.factor == factor
    assert view.pixels.shape == (HEIGHT // factor, WIDTH // factor, 3)


@pytest.mark.parametrize(("longest", "factor"), [(6400, 4), (12_800, 8), (6399, 2), (3199, 1), (20_000, 8)])
def test_a_view_is_not_small(longest: int, factor: int) -> None:
    file = io.BytesIO()
    PilImage.new("L", (longest, 16)).save(file, "JPEG")
    view = opened(file.getvalue()).view(0.001)
    assert view.factor == factor
    assert view.pixels.shape[1] >= min(longest, USUAL_SIDE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_found_in_a_view_lies_there_in_the_image(orientation: int) -> None:
    data = encoded(orientation)
    photo = opened(data)
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    view = photo.view(0.5)
    assert view.factor == 2
    assert np.abs(view.points_on_image(centres(view.pixels)) - SPOTS).max() < 0.6
    assert np.abs(view.points_of(SPOTS) - centres(view.pixels)).max() < 0.3
    assert (photo.pixels() == decode(data, max_pixels=None, max_bytes=1 << 25)).all()


@pytest.mark.parametrize(("mode", "options"), [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})])
def test_every_kind_of_jpeg_has_views(mode: str, options: dict[str, object]) -> None:
    view = opened(encoded(mode=mode, **options)).view(0.25)
    assert view.factor == 2
    assert np.abs(view.points_on_image(centres(view.pixels)) - SPOTS).max() < 0.6


def test_pixels_are_decoded_again_only_if_more_are_needed(photo: bytes) -> None:
    opened_photo = opened(photo)
    half = opened_photo.view(0.4)
    assert opened_photo.view(0.5) is half
    assert opened_photo.decode_seconds > 0
    full = opened_photo.view(0.6)
    assert full.factor == 1
    assert opened_photo.view(0.4) is full


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_is_decoded_without_what_comes_after_it(orientation: int) -> None:
    data = encoded(orientation)
    photo = opened(data)
    photo.view(0.5)
    x, y = (int(value) for value in SPOTS[0])
    part = np.array([x - 150, y - 150, x + 150, y + 150], np.float32)
    view = photo.close_view(1, part)
    whole = decode(data, max_pixels=None, max_bytes=1 << 25)
    assert photo.factor_for(0.9) == 1
    assert photo.factor_for(0.2) == 2
    assert view.factor == 1
    left, top = view.points_of(part[:2]).astype(int)
    assert (view.pixels[top : top + 300, left : left + 300] == whole[y - 150 :, x - 150 :][:300, :300]).all()
    if orientation in (1, 2, 5, 8):
        assert view.pixels.size < whole.size / 2
        assert photo.view(0.5).factor == 2
    assert (photo.pixels() == whole).all()


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 50}])
def test_what_cannot_be_cut_is_decoded_whole(options: dict[str, object]) -> None:
    photo = opened(encoded(**options))
    photo.view(0.5)
    view = photo.close_view(1, np.array([0, 0, 100, 100], np.float32))
    assert view.pixels.shape[0] == HEIGHT


def test_other_formats_and_decoded_pixels_have_one_view() -> None:
    file = io.BytesIO()
    PilImage.new("RGB", (4000, 30)).save(file, "PNG")
    assert opened(file.getvalue()).view(0.1).factor == 1
    pixels = picture()
    assert Photo.of(pixels).view(0.1).pixels is pixels


@pytest.mark.parametrize("scale", [0.5, 1])
def test_damage_is_found_whatever_the_scale(photo: bytes, scale: float) -> None:
    with pytest.raises(ImageTruncated, match="ends before its last pixel"):
        opened(photo[: len(photo) * 7 // 10]).view(scale)
    with pytest.raises(ImageTooLarge):
        Photo.open(photo, max_pixels=100, max_bytes=1 << 25)


def test_boxes_go_there_and_back() -> None:
    view = View(np.zeros((10, 10, 3), np.uint8), 4, -3, -1)
    boxes = np.array([[0, 0, 40, 20], [5, 6, 7, 8]], np.float32)
    assert np.allclose(view.edges_on_image(view.edges_of(boxes)), boxes)
    assert np.allclose(view.points_on_image(view.points_of(boxes[:, :2])), boxes[:, :2])
