"""No image costs more than its size allows: what a decoder would pay for is counted before it sees the file."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.formats import jpeg, png, tiff
from mien.vision.formats.still import Still
from mien.vision.image import decode, read_still
from mien.vision.types import Image

PIXELS = 64 * 48


def read(data: bytes, max_pixels: int = PIXELS) -> Image:
    return decode(data, max_pixels=max_pixels, max_bytes=1 << 25)


def still(data: bytes, max_pixels: int = PIXELS) -> Still:
    return read_still(data, max_pixels=max_pixels)


def gradient(mode: str = "RGB", width: int = 64, height: int = 48) -> PilImage.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    return PilImage.fromarray(pixels).convert(mode)


def saved(image: PilImage.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


# --- JPEG

PROGRESSIVE = saved(gradient(), "JPEG", progressive=True, subsampling=0)
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")


def with_scans(count: int, before: bytes = b"") -> bytes:
    """The progressive image with its last scan `count` more times, each after these bytes."""
    return PROGRESSIVE[:-2] + (before + PROGRESSIVE[LAST_SCAN:-2]) * count + PROGRESSIVE[-2:]


def test_usual_progressive_images_of_the_largest_size_are_decoded() -> None:
    assert PROGRESSIVE.count(b"\xff\xda") == 10
    assert read(PROGRESSIVE).shape == (48, 64, 3)


@pytest.mark.parametrize("before", [b"", b"\xff\xff", b"garbage", b"\xff\xfe\x00\x04ab", b"\xff\xd9"[:1] + b"\x00"])
def test_scans_are_counted_whatever_is_between_them(before: bytes) -> None:
    with pytest.raises(ImageTooLarge, match="scans"):
        read(with_scans(jpeg.MOST_SCANS, before), max_pixels=10**6)


def test_a_marker_in_the_content_of_a_segment_is_no_scan() -> None:
    comment = b"\xff\xda" * 1000
    data = PROGRESSIVE[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + PROGRESSIVE[2:]
    assert (read(data) == read(PROGRESSIVE)).all()


def test_many_scans_of_a_small_image_cost_less_than_few_of_a_large_one() -> None:
    assert read(with_scans(40), max_pixels=10 * PIXELS).shape == (48, 64, 3)
    with pytest.raises(ImageTooLarge, match="scans of 64x48"):
        read(with_scans(40))


@pytest.mark.parametrize("frame", [0xC3, 0xC5, 0xC7, 0xCB, 0xCF])
def test_other_codings_are_not_read(frame: int) -> None:
    data = saved(gradient(), "JPEG").replace(b"\xff\xc0", bytes([0xFF, frame]), 1)
    with pytest.raises(ImageFormatUnsupported, match="lossless or hierarchical"):
        read(data)


def test_a_height_that_follows_the_first_scan_is_refused() -> None:
    data = saved(gradient(), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(ImageTruncated, match="64x0"):
        read(data[:at] + b"\0\0" + data[at + 2 :])


def test_metadata_of_a_jpeg_does_not_reach_the_decoder() -> None:
    data = saved(gradient(), "JPEG", exif=b"Exif\0\0" + b"x" * 60000, comment=b"y" * 60000)
    assert len(still(data).data) < len(data) - 120_000
    assert (read(data) == read(saved(gradient(), "JPEG"))).all()


def test_a_flood_of_segments_is_refused() -> None:
    data = saved(gradient(), "JPEG")
    with pytest.raises(ImageTooLarge, match="segments"):
        read(data[:2] + b"\xff\xfe\0\2" * (jpeg.MOST_SEGMENTS + 1) + data[2:])


# --- PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def with_chunks(*chunks: bytes) -> bytes:
    data = saved(gradient(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def test_packed_metadata_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(1 << 20), 9)
    data = with_chunks(chunk(b"iCCP", b"a\0\0" + bomb), *[chunk(b"zTXt", b"a\0\0" + bomb)] * 100)
    assert len(still(data).data) == len(saved(gradient(), "PNG"))
    assert (read(data) == read(saved(gradient(), "PNG"))).all()


def test_a_flood_of_chunks_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="chunks"):
        read(with_chunks(chunk(b"tIME", b"") * (png.MOST_CHUNKS + 1)))


def exif_with(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


HEX = b"\nexif\n    40\n" + (b"Exif\0\0" + exif_with(6)).hex().encode()
XMP = b'<x tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"eXIf", exif_with(6)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX)),
        chunk(b"tEXt", b"Raw profile type exif\0" + HEX),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ],
    ids=["eXIf", "zTXt", "tEXt", "iTXt", "packed iTXt"],
)
def test_a_png_is_turned_by_whatever_names_its_orientation(metadata: bytes) -> None:
    assert read(with_chunks(metadata)).shape == (64, 48, 3)


# --- GIF, BMP, WebP


def test_comments_and_later_frames_do_not_reach_the_decoder() -> None:
    second = PilImage.new("L", (64, 48), 0)
    data = saved(gradient("P"), "GIF", save_all=True, append_images=[second], comment=b"x" * 100_000)
    assert len(still(data).data) < len(saved(gradient("P"), "GIF")) + 100
    assert (read(data) == read(saved(gradient("P"), "GIF"))).all()


def test_a_flood_of_short_blocks_is_refused() -> None:
    data = saved(gradient("P"), "GIF")
    flood = b"\x21\xfe" + b"\x01a" * 300_000 + b"\0"
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    with pytest.raises(ImageTooLarge, match="blocks"):
        read(data[:at] + flood + data[at:])


def test_run_lengths_of_bmp_are_not_read() -> None:
    data = bytearray(saved(gradient("P"), "BMP"))
    data[30] = 1
    with pytest.raises(ImageFormatUnsupported, match="compression"):
        read(bytes(data))


def test_only_the_first_frame_of_a_webp_reaches_the_decoder() -> None:
    others = [gradient().rotate(angle) for angle in range(10, 100, 10)]
    data = saved(gradient(), "WEBP", lossless=True, save_all=True, append_images=others)
    assert len(still(data).data) < len(data) / 5
    assert (read(data) == read(saved(gradient(), "WEBP", lossless=True))).all()


def test_a_frame_that_covers_part_of_a_webp_is_put_in_its_place() -> None:
    frame = saved(PilImage.new("RGB", (16, 8), "red"), "WEBP", lossless=True)[12:]
    sides = b"".join(n.to_bytes(3, "little") for n in (10, 5, 15, 7, 0)) + b"\0"
    content = sides + frame
    body = b"VP8X" + struct.pack("<II", 10, 2) + b"".join((n - 1).to_bytes(3, "little") for n in (64, 48))
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(content)) + content
    image = read(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)
    assert image.shape == (48, 64, 3)
    assert (image[10:18, 20:36] == (0, 0, 255)).all()
    image[10:18, 20:36] = 255
    assert (image == 255).all()


def test_a_webp_that_gives_two_sizes_is_refused() -> None:
    data = bytearray(saved(gradient("RGBA"), "WEBP", exif=exif_with(1)))
    assert data[12:16] == b"VP8X"
    data[24] = 15
    with pytest.raises(ImageTruncated):
        read(bytes(data))


# --- TIFF


def tags_of(data: bytes) -> dict[int, int]:
    """Where each tag's entry is, in a little-endian file."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return {struct.unpack_from("<H", data, at)[0]: at for at in places}


def with_tag(data: bytes, tag: int, value: int, kind: int = 4) -> bytes:
    at = tags_of(data)[tag]
    return data[:at] + struct.pack("<HHII", tag, kind, 1, value) + data[at + 12 :]


def tiled(side: int, tile: int) -> bytes:
    """A tiled gray image, whose tiles are all the same bytes."""
    body = zlib.compress(bytes(min(tile * tile, 1 << 20)))
    count = (-(-side // tile)) ** 2
    at = 8 + len(body)
    table = struct.pack(f"<{count}I", *[8] * count) + struct.pack(f"<{count}I", *[len(body)] * count)
    first, second = (8, len(body)) if count == 1 else (at, at + 4 * count)
    entries = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile), (323, tile)]
    directory = struct.pack("<H", 10) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    directory += struct.pack("<HHII", 324, 4, count, first) + struct.pack("<HHII", 325, 4, count, second) + bytes(4)
    return b"II*\0" + struct.pack("<I", at + len(table)) + body + table + directory


LZW = saved(gradient(), "TIFF", compression="tiff_lzw")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("big", [False, True])
def test_usual_tiffs_are_read(compression: str, big: bool) -> None:
    image = read(saved(gradient(), "TIFF", compression=compression, big_tiff=big, strip_size=2000))
    assert np.abs(image[..., ::-1].astype(int) - np.asarray(gradient())).max() <= (30 if compression == "jpeg" else 0)


def test_tiles_may_pass_the_edges_but_not_by_far() -> None:
    assert read(tiled(50, 64)).shape == (50, 50, 3)
    assert read(tiled(40, 1024)).shape == (40, 40, 3)
    with pytest.raises(ImageTooLarge, match="20032x20032 tiles"):
        read(tiled(40, 20032))


def test_what_many_strips_share_is_not_decoded_again_and_again() -> None:
    data = saved(gradient(), "TIFF", compression="tiff_lzw", strip_size=64 * 3)
    lengths = tags_of(data)[279]
    count, at = struct.unpack_from("<II", data, lengths + 4)
    assert count == 48
    data = data[:at] + struct.pack(f"<{count}I", *[len(data) - 200] * count) + data[at + 4 * count :]
    with pytest.raises(ImageTruncated, match="longer than the file"):
        read(data)


def test_more_strips_than_there_are_places_are_refused() -> None:
    with pytest.raises(ImageTruncated, match="48 strips or tiles for 1 places"):
        read(with_tag(saved(gradient(), "TIFF", compression="tiff_lzw", strip_size=192), 278, 48))


@pytest.mark.parametrize("compression", [6, 34661, 34712, 34925, 50000, 50001])
def test_other_compressions_of_tiff_are_not_read(compression: int) -> None:
    with pytest.raises(ImageFormatUnsupported, match=f"compression {compression}"):
        read(with_tag(LZW, 259, compression, 3))


def test_scans_in_a_tiff_are_counted() -> None:
    data = saved(gradient(), "TIFF", compression="jpeg")
    start = struct.unpack_from("<I", data, tags_of(data)[273] + 8)[0]
    progressive = with_scans(jpeg.MOST_SCANS)
    long = data + progressive
    long = with_tag(with_tag(long, 273, len(data)), 279, len(progressive))
    assert start < len(data)
    with pytest.raises(ImageTooLarge, match="scans"):
        read(long)


def test_tags_that_the_pixels_do_not_need_are_not_read() -> None:
    data = LZW + bytes(1 << 20)
    (start,) = struct.unpack_from("<I", LZW, 4)
    (count,) = struct.unpack_from("<H", LZW, start)
    entries = LZW[start + 2 : start + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", 40000 + number, 1, 1 << 20, len(LZW)) for number in range(400))
    flood = data[:4] + struct.pack("<I", len(data)) + data[8:]
    flood += struct.pack("<H", count + 400) + entries + more + bytes(4)
    assert (read(flood) == read(LZW)).all()
    assert struct.unpack_from("<H", still(flood).data, struct.unpack_from("<I", still(flood).data, 4)[0])[0] <= count


def test_too_many_tags_are_refused() -> None:
    data = LZW[:4] + struct.pack("<I", len(LZW)) + LZW[8:] + struct.pack("<H", tiff.MOST_TAGS + 1) + bytes(12 * 600)
    with pytest.raises(ImageTooLarge, match="tags"):
        read(data)


def test_only_the_first_image_of_a_tiff_is_read() -> None:
    pages = [PilImage.new("RGB", (64, 48), "red")] * 50
    data = saved(gradient(), "TIFF", save_all=True, append_images=pages)
    assert (read(data) == read(saved(gradient(), "TIFF"))).all()


# --- what is checked is what is decoded


SAVERS: list[Callable[[], bytes]] = [
    lambda: saved(gradient(), "JPEG"),
    lambda: PROGRESSIVE,
    lambda: saved(gradient(), "PNG"),
    lambda: saved(gradient("P"), "GIF"),
    lambda: saved(gradient(), "WEBP"),
    lambda: LZW,
    lambda: saved(gradient(), "BMP"),
]


@pytest.mark.parametrize("save", SAVERS)
def test_whatever_is_damaged_the_size_that_was_checked_is_the_size_that_is_decoded(save: Callable[[], bytes]) -> None:
    data, random = save(), np.random.default_rng(7)
    for _ in range(150):
        broken = bytearray(data)
        for at in random.integers(0, min(len(data), 400), 3):
            broken[at] = random.integers(0, 256)
        try:
            image = read(bytes(broken), max_pixels=4 * PIXELS)
        except ImageError:
            continue
        assert image.shape[1::-1] == still(bytes(broken), 4 * PIXELS).upright_size
