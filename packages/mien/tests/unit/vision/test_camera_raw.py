"""Camera raw is refused by its name; the thumbnail at its start is never taken for the image."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageFormatUnsupported
from mien.vision.image import decode
from mien.vision.types import Image

Tags = dict[int, int | bytes]
THUMBNAIL, SENSOR = (160, 120), 32803


def read(data: bytes) -> Image:
    return decode(data, max_pixels=10**6, max_bytes=1 << 25)


def tiff(tags: Tags, *subs: Tags, after: Tags | None = None, order: str = "<") -> bytes:
    """A TIFF with a gray thumbnail, with images of its own in `subs`, and with another one after it."""
    pixels = bytes(np.arange(THUMBNAIL[0] * THUMBNAIL[1], dtype=np.uint8))
    first: Tags = {256: THUMBNAIL[0], 257: THUMBNAIL[1], 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 120} | tags
    first[279] = len(pixels)
    at = 8 + len(pixels)
    blob, places = bytearray(), []
    for sub in subs:
        places.append(at + len(blob))
        blob += directory(sub, places[-1], order)
    if places:
        first[330] = places[0] if len(places) == 1 else struct.pack(f"{order}{len(places)}I", *places)
    start = at + len(blob)
    following = 0 if after is None else start + len(directory(first, start, order))
    blob += directory(first, start, order, following)
    if after is not None:
        blob += directory(after, following, order)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", start) + pixels + bytes(blob)


def directory(tags: Tags, at: int, order: str, following: int = 0) -> bytes:
    """Numbers are LONGs; bytes are texts, or LONGs in the case of tag 330."""
    entries, values = b"", b""
    place = at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, int):
            entries += struct.pack(order + "HHII", tag, 4, 1, value)
            continue
        kind, count = (4, len(value) // 4) if tag == 330 else (2, len(value))
        content = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", place + len(values))
        values += value if len(value) > 4 else b""
        entries += struct.pack(order + "HHI", tag, kind, count) + content
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + values


RAW: Tags = {254: 0, 256: 6000, 257: 4000, 258: 14, 259: 34713, 262: SENSOR}
PREVIEW: Tags = {254: 1, 256: 6000, 257: 4000, 259: 6, 513: 8, 514: 100}
SMALLER: Tags = {254: 1, 256: 80, 257: 60, 258: 8, 259: 1, 262: 1}


def test_a_plain_tiff_of_the_same_making_is_read() -> None:
    assert read(tiff({254: 0})).shape == (120, 160, 3)
    assert read(tiff({254: 0, 271: b"NIKON CORPORATION\0"}, order=">")).shape == (120, 160, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (b"NIKON CORPORATION\0", "Nikon NEF"),
        (b"SONY\0", "Sony ARW"),
        (b"SAMSUNG\0", "Samsung SRW"),
        (b"Unheard Of\0", "in TIFF"),
    ],
)
def test_a_thumbnail_in_front_of_what_a_sensor_saw_is_camera_raw(order: str, make: bytes, name: str) -> None:
    for subs in ((RAW,), (PREVIEW, RAW), (RAW | {256: 100},)):
        with pytest.raises(ImageFormatUnsupported, match=f"camera raw file \\({name}\\)"):
            read(tiff({254: 1, 271: make}, *subs, order=order))


def test_it_need_not_say_that_it_is_a_thumbnail() -> None:
    with pytest.raises(ImageFormatUnsupported, match="Nikon NEF"):
        read(tiff({271: b"NIKON\0"}, RAW))
    with pytest.raises(ImageFormatUnsupported, match="Nikon NEF"):
        read(tiff({271: b"NIKON\0"}, PREVIEW))


def test_a_dng_is_camera_raw_whatever_comes_first() -> None:
    with pytest.raises(ImageFormatUnsupported, match="camera raw file \\(DNG\\)"):
        read(tiff({254: 0, 50706: b"\1\4\0\0"}))


def test_what_a_sensor_saw_may_come_first() -> None:
    with pytest.raises(ImageFormatUnsupported, match="Pentax PEF"):
        read(tiff({262: SENSOR, 271: b"PENTAX\0"}))


def test_a_thumbnail_before_a_larger_page_is_not_the_image() -> None:
    with pytest.raises(ImageFormatUnsupported, match="thumbnail of 19200 pixels"):
        read(tiff({254: 1}, after=RAW | {262: 2}))
    with pytest.raises(ImageFormatUnsupported, match="thumbnail of 19200 pixels"):
        read(tiff({}, RAW | {262: 2}))


def test_smaller_copies_and_other_pages_do_not_matter() -> None:
    pixels = read(tiff({254: 0}))
    assert (read(tiff({254: 0}, SMALLER, SMALLER | {256: 40})) == pixels).all()
    assert (read(tiff({254: 0}, after=RAW | {262: 2})) == pixels).all()
    assert (read(tiff({254: 1}, SMALLER)) == pixels).all()


def test_directories_that_cannot_be_read_do_not_matter() -> None:
    pixels = read(tiff({254: 0}))
    assert (read(tiff({254: 0, 330: 1 << 30})) == pixels).all()
    assert (read(tiff({254: 0, 330: 3})) == pixels).all()
    assert (read(tiff({254: b"\1\1\1\1"})) == pixels).all()


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3"),
        (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"MMOR\0\0\0\x08", "Olympus ORF"),
        (b"FOVb\0\0\2\0", "Sigma X3F"),
        (b"\0MRM\0\0\0\0", "Minolta MRW"),
    ],
)
def test_raw_formats_with_a_start_of_their_own_are_named(start: bytes, name: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=name) as caught:
        read(start + bytes(1000))
    assert "JPEG preview" in caught.value.message


def test_pages_of_a_usual_tiff_are_not_searched() -> None:
    file = io.BytesIO()
    large = PilImage.new("RGB", (640, 480), "red")
    PilImage.new("RGB", (64, 48)).save(file, "TIFF", save_all=True, append_images=[large])
    assert read(file.getvalue()).shape == (48, 64, 3)
