"""Faces in large JPEGs are the same whether all pixels are decoded or only as many as are needed."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from mien import Faces
from mien.errors import ModelError
from mien.vision.image import decode
from mien.vision.types import Image
from testing.tools import missing

PHOTOS = Path(__file__).parents[2] / "photos"
WIDTH, HEIGHT = 3200, 2400
LARGE, SMALL = (300, 250, 0.9), (2200, 300, 0.35)
"""Left, top and scale of a portrait: faces of about 350 and 140 pixels, which half of the pixels show well and not."""


@pytest.fixture(scope="module")
def faces() -> Iterator[Faces]:
    try:
        with Faces() as opened:
            yield opened
    except ModelError as error:
        missing(f"the face models ({error.message})")


def photo(*places: tuple[int, int, float]) -> bytes:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels: Image = np.stack([rows * 90 // HEIGHT + 60, columns * 90 // WIDTH + 60, rows // 30 + 60], -1).astype(
        np.uint8
    )
    portrait = cv2.imread(str(PHOTOS / "person_b_1.jpg"))
    for left, top, scale in places:
        part = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pixels[top : top + len(part), left : left + part.shape[1]] = part
    return simplejpeg.encode_jpeg(pixels, 92, "BGR", "420")


@pytest.mark.parametrize("size", [640, "auto"])
def test_faces_of_every_size_are_those_of_all_pixels(faces: Faces, size: int | str) -> None:
    data = photo(LARGE, SMALL)
    few = faces.find(data, detection_size=size)
    every = faces.find(decode(data, max_pixels=None, max_bytes=1 << 25), detection_size=size)
    assert len(few) == len(every) == 2
    for one, same in zip(few, every, strict=True):
        length = float((same.box[2:] - same.box[:2]).max())
        assert np.abs(one.box - same.box).max() < 0.02 * length
        assert np.abs(one.landmarks - same.landmarks).max() < 0.03 * length
        assert float(one.vector @ same.vector) > 0.985


def test_a_face_is_the_same_whatever_other_faces_are_looked_at(faces: Faces) -> None:
    data = photo(LARGE, SMALL)
    large, small = sorted(faces.find(data), key=lambda face: float(face.box[0]))
    (alone,) = faces.find(data, limit=1)
    assert (alone.box == large.box).all()
    assert (alone.vector == large.vector).all()
    (above,) = faces.find(data, max_size=200)
    assert (above.vector == small.vector).all()
