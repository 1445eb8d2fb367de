"""JPEGs that are odd but whole are read with the pixels that libjpeg sees; what is cut or damaged is refused truly."""

import base64
import io
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageFormatUnsupported, ImageTruncated
from mien.vision.image import decode, read_still
from mien.vision.types import Image

ARITHMETIC = (
    "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZlBWkhEXERQWlxMXE5GWkHDSVtDVVUj0MrWwCkhNDUlPjQ2OqtiZmNW4YTi6NjWrW0T5i1evXZ1"
    "esOek7uWHZ+5YvUSkCGMMnJyGsoaftrafkvyYvOWkAz+n2QQ5GBQYDBgZlRiYBJkZBZk/H+GgYtBQICVUUCQ9f8tBh5mRqAEsyCDPcN/huR3"
    "BtXnf/xa9rtg0f6rh/kf5B97YMry0Itn0bXgjayJxT+Nim7kpRxtDTu44/f0a7MzHn/5fxMA681rrQ=="
)
PROGRESSIVE_ARITHMETIC = (
    "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZlBWkhEXERQWlxMXE5GWkHDSVtDVVUj0MrWwCkhNDUlPjQ2OqtiZmNW4YTi6NjWrW0T5i1evXZ1"
    "esOek7uWHZ+5YvUSkCGMMnJyGsoaftrafkvyYvOWkAz+n2IQ5GBQYDBgZlRiYBJkZBZk/H+GgY1BgFHg/y0GHmZGBiYBZgGgs//t9rddx+Xm"
    "8Kx1v6rEgc1lKV+A6lgEWIGqOID+YmRl2gASEIQIMDMy2jOq/57FgSTGBBI7gKKLzR6iC2GMvaIIs0i2ygSY5QzMDAwMAjFndHXQTBdAM1nA"
    "Cs0ggcXCW7Ie9vnc/H8TAPDSg/A="
)
THREE_TO_ONE = (
    "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZlBWkhEXERQWlxMXE5GWkHDSVtDVVUj0MrWwCkhNDUlPjQ2OqtiZmNW4YTi6NjWrW0T5i1evXZ1"
    "esOek7uWHZ+5YvUSkCGMMnJyGsoaftrafkvyYvOWkAz+H2AQ5GBQYDBgZjRkYBJkZBZk/H+EQR7oTlZGMGCAAkYmZhZWNnYOTi5uoIKtAgxM"
    "jMzMTCzMrKwsLEDZWqA8A4sgq5CioSObcGAiu1KhiFHjxIUcyk4bD4oGXfygYpxU1MTJJSYuISmlqqauoallYmpmbmFp5ezi6ubu4ekVHBIa"
    "Fh4RGZWckpqWnpGZVVxSWlZeUVnV3NLa1t7R2TVp8pSp06bPmDlr0eIlS5ctX7Fy1abNW7Zu275j565Dh48cPXb8xMlTly5fuXrt+o2btx4+"
    "evzk6bPnL16++vjp85ev377/+PkL5C9GBmZGGMDqL0Ggv5hYWJhZ2EH+YmQqBykQZGFVNGQTcgxkTywUVjJq5BBxmrhw40FOZeOgD6JJRRe5"
    "xFRMHqp+BHkN7DPiPNZEls/gHkP46xYDDzMjMPKYBRnsGZ6HhJzQShUVUsqY6erTtDQw4sTjWYZTQk4Bxdb0uwEFvRYtc4z0AApOAAqmiC7p"
    "98qYyuoDE5wC1B0KUQkSBGu3/38TAB9jGaw="
)
"""From cjpeg of libjpeg-turbo: 48 × 32 pixels with arithmetic coding, and with colours at a third of the width."""


def read(data: bytes) -> Image:
    return decode(data, max_pixels=10**6, max_bytes=1 << 25)


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def gradient(mode: str = "RGB", width: int = 200, height: int = 144) -> PilImage.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows, columns, rows ^ columns], axis=-1).astype(np.uint8)
    return PilImage.fromarray(pixels).convert(mode)


def saved(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    gradient(mode).save(file, "JPEG", **options)  # type: ignore[arg-type]
    return file.getvalue()


def seen_by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(PilImage.open(io.BytesIO(data)).convert("RGB"))[..., ::-1]


KINDS = {
    "baseline": saved(),
    "all colours": saved(subsampling=0),
    "restarts": saved(restart_marker_blocks=5),
    "progressive": saved(progressive=True),
    "gray": saved("L"),
    "CMYK": saved("CMYK"),
    "progressive CMYK": saved("CMYK", progressive=True),
}


def scan(data: bytes) -> int:
    """Where the first scan begins."""
    return data.index(b"\xff\xda")


def tables(data: bytes) -> int:
    """Where the first table begins."""
    return data.index(b"\xff\xdb")


def put(at: int, data: bytes, more: bytes) -> bytes:
    return data[:at] + more + data[at:]


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    size = 2 + len(body) if length is None else length
    return bytes([0xFF, marker]) + size.to_bytes(2, "big") + body


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "no end marker": lambda data: data[:-2],
    "half an end marker": lambda data: data[:-1],
    "zeros for an end marker": lambda data: data[:-2] + b"\0\0",
    "another marker for the end marker": lambda data: data[:-2] + b"\xff\x12",
    "a reserved marker for the end marker": lambda data: data[:-2] + b"\xff\xf9",
    "a start for the end marker": lambda data: data[:-1] + b"\xd8",
    "garbage for the end marker": lambda data: data[:-2] + b"garbage" * 50,
    "another image behind it": lambda data: data + data,
    "another image for the end marker": lambda data: data[:-2] + data,
    "a text behind it": lambda data: data + b"\r\n--boundary--\r\n",
    "stray bytes before the end marker": lambda data: data[:-2] + b"\0\0\0\0" + data[-2:],
    "stray bytes before tables": lambda data: put(tables(data), data, b"stray"),
    "stray bytes before the scan": lambda data: put(scan(data), data, bytes(7)),
    "an escaped byte before tables": lambda data: put(tables(data), data, b"\xff\0"),
    "fill bytes": lambda data: put(tables(data), put(scan(data), data, b"\xff" * 3), b"\xff" * 9),
    "restart markers in the header": lambda data: put(tables(data), data, b"\xff\xd3\xff\x01"),
    "an ICC marker out of order": lambda data: put(tables(data), data, segment(0xE2, b"ICC_PROFILE\0\7\3abc")),
    "an ICC marker too short": lambda data: put(tables(data), data, segment(0xE2, b"ICC_PROFILE\0")),
    "an ICC marker whose length is too small": lambda data: put(
        tables(data), data, segment(0xE2, b"ICC_PROFILE\0\1\1" + b"profile" * 20, 40)
    ),
    "metadata without a length": lambda data: put(tables(data), data, segment(0xED, b"Photoshop", 0)),
    "damaged EXIF": lambda data: put(tables(data), data, segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")),
    "an unknown revision of JFIF": lambda data: put(2, data, segment(0xE0, b"JFIF\0\x09\x01" + bytes(7))),
    "a cut-off JFIF segment": lambda data: put(2, data, segment(0xE0, b"JFIF\0")),
    "metadata between tables and scan": lambda data: put(scan(data), data, segment(0xFE, b"comment \xff\xda \xff\xd9")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("oddity", WHOLE)
def test_what_is_whole_is_read_however_odd(kind: str, oddity: str) -> None:
    assert (read(WHOLE[oddity](KINDS[kind])) == seen_by_pillow(KINDS[kind])).all()


def test_unknown_colour_transforms_are_what_libjpeg_takes_them_for() -> None:
    inks, colours = KINDS["CMYK"], KINDS["baseline"]
    at = inks.index(b"Adobe") + 11
    for data in (
        inks[:at] + b"\x07" + inks[at + 1 :],
        put(2, colours, segment(0xEE, b"Adobe\0d\0\0\0\0\7")).replace(b"JFIF", b"none"),
    ):
        assert (read(data) == seen_by_pillow(data)).all()


def test_a_sequential_scan_with_odd_parameters_has_all_coefficients() -> None:
    data = saved()
    at = scan(data) + 4 + 1 + 2 * 3
    assert data[at : at + 3] == b"\0\x3f\0"
    assert (read(data[: at + 1] + b"\0\1" + data[at + 3 :]) == seen_by_pillow(data)).all()


@pytest.mark.parametrize("text", [ARITHMETIC, PROGRESSIVE_ARITHMETIC, THREE_TO_ONE])
def test_rare_codings_are_read(text: str) -> None:
    data = unpacked(text)
    for whole in (data, data[:-2] + b"\0\0\xff\xd9", data + b"more", put(tables(data), data, b"stray")):
        assert (read(whole) == seen_by_pillow(data)).all()


@pytest.mark.parametrize("text", [ARITHMETIC, PROGRESSIVE_ARITHMETIC, THREE_TO_ONE])
def test_rare_codings_that_are_cut_off_are_refused(text: str) -> None:
    data = unpacked(text)
    with pytest.raises(ImageTruncated):
        read(data[: len(data) * 8 // 10])


def test_the_first_of_several_images_is_read() -> None:
    file = io.BytesIO()
    gradient().save(file, "MPO", save_all=True, append_images=[PilImage.new("RGB", (200, 144), "red")])
    data = file.getvalue()
    assert data.count(b"\xff\xd8\xff") == 2
    assert (read(data) == seen_by_pillow(data)).all()


def test_components_may_share_a_name() -> None:
    data = bytearray(saved())
    frame, at = data.index(b"\xff\xc0"), scan(bytes(data))
    data[frame + 10 : frame + 19 : 3] = data[at + 5 : at + 11 : 2] = b"\7\7\7"
    assert (read(bytes(data)) == seen_by_pillow(bytes(data))).all()


# --- what is cut off or damaged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_what_is_cut_off_is_called_so(kind: str, share: float) -> None:
    data = KINDS[kind]
    start = scan(data) + 20
    cut = data[: start + int((len(data) - start) * share)]
    for end in (b"", b"\0", b"\xff"):
        with pytest.raises(ImageTruncated, match="ends before its last"):
            read(cut + end)


@pytest.mark.parametrize("kind", ["baseline", "restarts", "gray", "CMYK"])
def test_whatever_the_place_a_cut_file_is_refused_or_has_every_pixel(kind: str) -> None:
    data = KINDS[kind]
    pixels, refused = seen_by_pillow(data), 0
    for length in range(len(data) - 40, len(data)):
        try:
            image = read(data[:length])
        except ImageTruncated:
            refused += 1
        else:
            assert (image == pixels).all()
    assert refused > 30


@pytest.mark.parametrize("kind", ["progressive", "progressive CMYK"])
def test_a_file_that_lacks_its_last_scans_is_cut_off(kind: str) -> None:
    data = KINDS[kind]
    with pytest.raises(ImageTruncated, match="ends before its last scan"):
        read(data[: data.rindex(b"\xff\xda")])


@pytest.mark.parametrize("kind", ["baseline", "gray", "progressive"])
def test_data_that_ends_before_the_end_marker_is_damage(kind: str) -> None:
    data = KINDS[kind]
    at = data.rindex(b"\xff\xda")
    with pytest.raises(ImageTruncated, match="damaged: Corrupt JPEG data: premature end of data segment"):
        read(data[: at + (len(data) - at) // 2] + b"\xff\xd9")


def test_a_restart_marker_in_the_wrong_place_is_damage() -> None:
    data = KINDS["restarts"]
    at = data.index(b"\xff\xd4")
    for broken in (data[:at] + data[at + 2 :], data[: at + 1] + b"\xd7" + data[at + 2 :], put(at, data, bytes(40))):
        with pytest.raises(ImageTruncated, match="damaged"):
            read(broken)


def test_a_colour_without_a_scan_is_damage() -> None:
    data = KINDS["progressive"]
    end = data.index(b"\xff\xc4", scan(data))
    first = bytearray(data[:end] + b"\xff\xd9")
    assert read(bytes(first)).shape == (144, 200, 3)  # a rough image, but one that says that it is whole
    at = scan(data)
    assert first[at + 4] == 3
    only = (
        bytes(first[:at]) + segment(0xDA, bytes([1, first[at + 5], first[at + 6], 0, 0, 1])) + bytes(first[at + 14 :])
    )
    with pytest.raises(ImageTruncated, match="no data of one of its colour components"):
        read(only)


def test_zeros_within_the_coded_data_are_damage() -> None:
    data = KINDS["restarts"]
    middle = len(data) // 2
    with pytest.raises(ImageTruncated, match="damaged"):
        read(data[:middle] + bytes(200) + data[middle + 200 :])


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [(4, 12, "12 bits per sample"), (9, 2, "2 colour components"), (1, 0xC3, "lossless"), (1, 0xC7, "hierarchical")],
)
def test_what_is_not_read_is_named(at: int, value: int, reason: str) -> None:
    data = bytearray(saved())
    data[data.index(b"\xff\xc0") + at] = value
    if at == 9:
        data[scan(bytes(data)) + 2 : scan(bytes(data)) + 14] = b"\0\x0a\2\1\0\2\0\0\x3f\0\0\0"
    with pytest.raises(ImageFormatUnsupported, match=reason):
        read(bytes(data))


def test_a_segment_that_swallows_the_tables_is_damage() -> None:
    data = saved()
    with pytest.raises(ImageTruncated, match=r"damaged|header"):
        read(put(tables(data), data, segment(0xE2, b"", 300)))


def test_what_the_decoder_sees_is_a_file_with_nothing_to_warn_of() -> None:
    data = WHOLE["stray bytes before tables"](WHOLE["an unknown revision of JFIF"](saved()))[:-2]
    still = read_still(data, max_pixels=10**6)
    assert not still.ended
    assert bytes(still.data) == bytes(
        read_still(put(2, saved(), segment(0xE0, b"JFIF\0\1\1" + bytes(7))), max_pixels=10**6).data
    )
