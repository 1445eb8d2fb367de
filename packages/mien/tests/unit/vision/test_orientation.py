"""The orientation is read however a writer stored it."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageOps

from mien.vision.formats.orientation import exif_orientation, known, tiff_orientation, xmp_orientation
from mien.vision.image import decode, read_still

SHORT, LONG = 3, 4
NUMBERS = {1: "B", SHORT: "H", LONG: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def exif(value: int, kind: int = SHORT, order: str = "<", count: int = 1, *, tag: int = 0x0112) -> bytes:
    """An EXIF block with one tag."""
    content = struct.pack(order + NUMBERS[kind] * count, *[value] * count)
    place = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", 26)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IHHHI", 8, 1, tag, kind, count)
    return head + place + bytes(4) + (content if len(content) > 4 else b"")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_it_may_be_any_number_any_number_of_times(order: str, kind: int, count: int) -> None:
    for value in range(1, 9):
        assert exif_orientation(exif(value, kind, order, count)) == value
        assert exif_orientation(b"Exif\0\0" + exif(value, kind, order, count)) == value


@pytest.mark.parametrize("order", ["<", ">"])
def test_it_may_be_a_fraction(order: str) -> None:
    block = exif(34, LONG, order)
    fraction = block[:12] + struct.pack(order + "HII", 5, 1, 26) + bytes(4)
    assert tiff_orientation(fraction + struct.pack(order + "II", 12, 2)) == 6
    assert tiff_orientation(fraction + struct.pack(order + "II", 12, 0)) == 1


def test_what_is_no_orientation_is_upright() -> None:
    assert [known(value) for value in (0, 9, -1, 2.5, float("nan"), float("inf"), "6", b"\6", None)] == [1] * 9
    assert tiff_orientation(exif(6)[:12] + struct.pack("<HI", 2, 2) + b"6\0\0\0" + bytes(4)) == 1
    assert tiff_orientation(exif(6)[:12] + struct.pack("<HI", SHORT, 0) + bytes(8)) == 1
    assert tiff_orientation(exif(6)[:12] + struct.pack("<HII", SHORT, 9, 1 << 31) + bytes(4)) == 1


def test_where_there_is_none_nothing_is_said() -> None:
    assert exif_orientation(b"") is None
    assert exif_orientation(b"Exif\0\0garbage") is None
    assert exif_orientation(exif(6, tag=0x0113)) is None
    assert exif_orientation(exif(6)[:14]) is None
    assert xmp_orientation(b"<x:xmpmeta/>") is None


def image() -> PilImage.Image:
    return PilImage.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(40, 60, 3))


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    if kind == "JPEG" and isinstance(block := options.get("exif"), bytes):
        options["exif"] = b"Exif\0\0" + block
    image().save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def same_as_pillow(data: bytes) -> bool:
    turned = ImageOps.exif_transpose(PilImage.open(io.BytesIO(data))).convert("RGB")
    pixels = decode(data, max_pixels=10**6, max_bytes=10**6)
    return pixels.shape == np.asarray(turned).shape and (pixels[..., ::-1] == np.asarray(turned)).all()


LOSSLESS: dict[str, dict[str, object]] = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("value", range(1, 9))
def test_every_format_is_turned_as_pillow_turns_it(kind: str, value: int) -> None:
    options = LOSSLESS[kind]
    for number in (SHORT, LONG):
        for order in "<>":
            data = saved(kind, exif=exif(value, number, order), **options)
            assert same_as_pillow(data)
            assert read_still(data, max_pixels=10**6).orientation == value


@pytest.mark.parametrize("value", range(1, 9))
def test_a_tiff_is_turned_whatever_the_number(value: int) -> None:
    data = saved("TIFF", tiffinfo={0x0112: value})
    at = data.index(struct.pack("<HHI", 0x0112, SHORT, 1))
    for kind in (SHORT, LONG, 9):
        assert same_as_pillow(data[:at] + struct.pack("<HHII", 0x0112, kind, 1, value) + data[at + 12 :])
    text = data[:at] + struct.pack("<HHI", 0x0112, 2, 2) + b"6\0\0\0" + data[at + 12 :]
    assert decode(text, max_pixels=10**6, max_bytes=10**6).shape == (40, 60, 3)


def with_xmp(kind: str, value: int, block: bytes | None = None) -> bytes:
    metadata = {} if block is None else {"exif": block}
    if kind == "TIFF":
        return saved(kind, tiffinfo={700: XMP % value})
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", (XMP % value).decode())
        return saved(kind, pnginfo=info, **metadata)
    return saved(kind, xmp=XMP % value, **metadata, **LOSSLESS[kind])


@pytest.mark.parametrize("kind", [*LOSSLESS, "TIFF"])
@pytest.mark.parametrize("value", [1, 3, 6, 9])
def test_xmp_has_its_say_where_there_is_no_exif(kind: str, value: int) -> None:
    assert same_as_pillow(with_xmp(kind, value))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_exif_comes_before_xmp(kind: str) -> None:
    for value in (1, 3):
        data = with_xmp(kind, 6, exif(value))
        assert same_as_pillow(data)
        assert decode(data, max_pixels=10**6, max_bytes=10**6).shape == (40, 60, 3)
