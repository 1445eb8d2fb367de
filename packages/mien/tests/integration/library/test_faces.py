"""Faces in a program: the same as behind the APIs, whatever an image comes as."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import httpx2
import numpy as np
import ormsgpack
import pytest
from PIL import Image

from mien import Face, Faces, MienError, Progress
from mien.errors import (
    ImageError,
    ImageTooLarge,
    ImageTruncated,
    InvalidField,
    SourceFailed,
    SourceNotFound,
    Unavailable,
)
from mien.faces.pipeline import FaceOptions
from mien.library.options import Options


@pytest.fixture(scope="module")
def faces() -> Iterator[Faces]:
    with Faces() as faces:
        yield faces


@pytest.fixture
def path(tmp_path: Path, photo: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    return path


def test_the_server_finds_the_same(faces: Faces, photo: bytes, client: httpx2.Client) -> None:
    (found,) = faces.find(photo)
    body = ormsgpack.packb({"images": {"data": [photo]}, "msgpack": True})
    answer = client.post("/extract", content=body, headers={"content-type": "application/msgpack"})
    (face,) = ormsgpack.unpackb(answer.content)["data"][0]["faces"]
    assert found.score == pytest.approx(face["prob"], abs=1e-6)
    assert found.vector is not None
    assert float(found.vector @ np.array(face["vec"], np.float32)) == pytest.approx(1, abs=1e-5)


def test_an_image_may_come_as_anything(faces: Faces, path: Path, photo: bytes) -> None:
    bgr = cv2.imread(str(path))
    assert bgr is not None
    pil = Image.open(BytesIO(photo))
    given: list[Any] = [path, str(path), photo, bytearray(photo), memoryview(photo), BytesIO(photo), bgr, pil]
    given += [np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)]), np.asfortranarray(bgr)]
    expected = faces.find(path)[0].vector
    assert expected is not None
    for image in given:
        (found,) = faces.find(image)
        assert found.vector is not None
        assert float(found.vector @ expected) > 0.99, type(image)
    (rgb,) = faces.find(bgr[..., ::-1], channels="rgb")
    assert rgb.vector is not None
    assert float(rgb.vector @ expected) > 0.99
    assert len(faces.find(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))) == 1


def test_pil_images_are_turned_as_their_metadata_say(faces: Faces, photo: bytes) -> None:
    lying = Image.open(BytesIO(photo)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    lying.save(file, "JPEG", exif=exif, quality=95)
    (upright,), (found,) = faces.find(photo), faces.find(Image.open(file))
    assert np.abs(upright.box - found.box).max() < 3


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (None, ImageError, "got NoneType"),
        (b"", ImageTruncated, "0 bytes"),
        ("missing.jpg", SourceNotFound, "no such file"),
        ("nul\0.jpg", SourceNotFound, "no such file"),
        (".", SourceFailed, "not a regular file"),
        ("/dev/zero", SourceFailed, "not a regular file"),
        (np.zeros((5, 5), np.float32), ImageError, "float32"),
        (np.zeros((5, 5, 7), np.uint8), ImageError, r"\(5, 5, 7\)"),
        (np.zeros((0, 5, 3), np.uint8), ImageError, r"\(0, 5, 3\)"),
        (b"a page of text", ImageError, "not an image"),
    ],
)
def test_what_is_no_image_is_one_error_that_says_so(
    image: Any, error: type[MienError], words: str, faces: Faces
) -> None:
    with pytest.raises(error, match=words):
        faces.find(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"threshold": 1.5}, "from 0 to 1"),
        (
            {"detection_size": 63},
            "detection_size: expected `auto`, `full` or a number of pixels from 64 to 4096, got 63",
        ),
        ({"detection_size": "huge"}, "detection_size"),
        ({"treshold": 0.5}, "unknown options: treshold"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str, faces: Faces, photo: bytes) -> None:
    with pytest.raises(InvalidField, match=words):
        faces.find(photo, **options)
    with pytest.raises(InvalidField, match=words):
        faces.folder(".", **options)


def test_faces_are_compared_by_image_face_or_vector(faces: Faces, photos: dict[str, bytes]) -> None:
    (first,) = faces.find(photos["person_a_1"])
    assert isinstance(first, Face)
    assert first.vector is not None
    same = faces.compare(first, photos["person_a_2"])
    assert same.same
    assert same.threshold == faces.same_threshold
    assert faces.compare(first.vector * 7, photos["person_a_2"]).similarity == pytest.approx(same.similarity, abs=1e-5)
    other = faces.compare(photos["person_a_1"], photos["person_b_1"])
    assert not other.same
    assert faces.compare(first, photos["person_b_1"], threshold=-1).same


def test_what_cannot_be_compared_is_said(faces: Faces, photo: bytes) -> None:
    (face,) = faces.find(photo, embedding=False)
    assert face.vector is None
    with pytest.raises(InvalidField, match="embedding=True"):
        faces.compare(face, photo)
    with pytest.raises(ImageError, match="no face"):
        faces.compare(photo, np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InvalidField, match="vectors of"):
        faces.compare(np.ones(3, np.float32), photo)
    with pytest.raises(InvalidField, match="'nobody' cannot be chosen"):
        faces.compare(photo, photo, recogniser="nobody")
    with pytest.raises(InvalidField, match="finite"):
        faces.compare(np.full(512, np.nan), photo)


def test_a_folder_is_searched_with_progress(faces: Faces, photos: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in photos.items():
        (tmp_path / f"{name}.jfif").write_bytes(data)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "._x.jpg").write_bytes(b"no image")
    counts: list[Progress] = []
    found = list(faces.folder(tmp_path, progress=counts.append, crops=True))
    assert [image.path.stem for image in found] == ["broken", *photos]
    assert isinstance(found[0].error, MienError)
    assert all(image.faces[0].crop for image in found[1:])
    assert counts[-1].images == 1 + len(photos)
    assert (counts[-1].failed, counts[-1].skipped, counts[-1].faces) == (1, 1, len(photos))


def test_many_threads_may_search_at_once(faces: Faces, photos: dict[str, bytes]) -> None:
    alone = {name: faces.find(data)[0].vector for name, data in photos.items()}
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait(60)
        for name, data in photos.items():
            vector = faces.find(data)[0].vector
            assert vector is not None
            assert np.allclose(vector, alone[name], atol=1e-5), (number, name)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_settings_hold_and_closed_faces_say_so(photo: bytes) -> None:
    with Faces(threads=1, refine=False, max_pixels=50_000) as faces:
        assert len(faces.find(photo)) == 1
        with pytest.raises(ImageTooLarge, match="500x400"):
            faces.find(np.zeros((400, 500, 3), np.uint8))
    faces.close()
    with pytest.raises(Unavailable, match="closed"):
        faces.find(photo)
    with pytest.raises(Unavailable, match="closed"):
        faces.folder(".")


def test_results_say_what_made_them(faces: Faces) -> None:
    made_by = faces.made_by()
    assert made_by.startswith("yunet+fr_feature ")
    assert faces.made_by(threshold=0.6, crops=True) == made_by  # the default; crops change nothing else
    assert faces.made_by(threshold=0.61) != made_by
    with Faces(threads=1, refine=False) as others:
        assert others.made_by() != made_by


def test_options_of_the_library_are_those_of_the_pipeline() -> None:
    assert set(Options.__annotations__) <= {field.name for field in fields(FaceOptions)}


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(MienError, match="detektor"):
        Faces(detektor="yunet")
    with pytest.raises(MienError, match="nobody"):
        Faces(detector="nobody")
