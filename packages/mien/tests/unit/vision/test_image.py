"""Encoded images are decoded correctly, or rejected with the reason."""

import io
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from mien.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.image import decode, read_still
from mien.vision.types import Image

PHOTOS = Path(__file__).parents[2] / "photos"
LIMITS = {"max_pixels": 4_000_000, "max_bytes": 8_000_000}


def read(data: bytes) -> Image:
    return decode(data, **LIMITS)


def saved(image: PilImage.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def quarters(width: int = 64, height: int = 48) -> PilImage.Image:
    """Red, green over blue, white: different in every orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255, 0, 0
    pixels[: height // 2, width // 2 :] = 0, 255, 0
    pixels[height // 2 :, : width // 2] = 0, 0, 255
    pixels[height // 2 :, width // 2 :] = 255
    return PilImage.fromarray(pixels)


def corners(image: Image) -> str:
    """Colours of the four quarters in reading order, such as RGBW."""
    height, width = image.shape[:2]
    names = {(0, 0, 1): "R", (0, 1, 0): "G", (1, 0, 0): "B", (1, 1, 1): "W", (0, 0, 0): "K"}
    points = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return "".join(names[tuple(int(v > 128) for v in image[p])] for p in points)  # type: ignore[index]


@pytest.fixture(scope="module")
def photo() -> bytes:
    return (PHOTOS / "person_a_1.jpg").read_bytes()


SAVERS: dict[str, Callable[[PilImage.Image], bytes]] = {
    "JPEG": lambda image: saved(image, "JPEG", quality=95),
    "progressive JPEG": lambda image: saved(image, "JPEG", progressive=True),
    "PNG": lambda image: saved(image, "PNG"),
    "WEBP": lambda image: saved(image, "WEBP", lossless=True),
    "GIF": lambda image: saved(image, "GIF"),
    "BMP": lambda image: saved(image, "BMP"),
    "TIFF": lambda image: saved(image, "TIFF"),
    "LZW TIFF": lambda image: saved(image, "TIFF", compression="tiff_lzw"),
    "AVIF": lambda image: saved(image, "AVIF", quality=90),
}


def heif(image: PilImage.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=90, **options)
    return file.getvalue()


SAVERS["HEIF"] = heif


@pytest.mark.parametrize("name", SAVERS)
def test_every_format_is_read_as_upright_bgr(name: str) -> None:
    data = SAVERS[name](quarters())
    still = read_still(data, max_pixels=10**6)
    image = read(data)
    assert still.format == name.split(" ")[-1]
    assert still.upright_size == (64, 48)
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((48, 64, 3), np.uint8, True)
    assert corners(image) == "RGBW"


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_every_colour_mode_is_read(mode: str) -> None:
    gray = PilImage.fromarray(np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 20, 0), 20, 1))
    if mode == "I;16":
        image = PilImage.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    else:
        image = gray.convert("RGB").convert(mode)
    for kind in ("TIFF",) if mode == "CMYK" else ("PNG", "TIFF"):
        assert corners(read(saved(image, kind))) == "KWWK"


def test_a_cmyk_jpeg_has_the_colours_that_pillow_sees() -> None:
    data = saved(quarters().convert("CMYK"), "JPEG", quality=95)
    assert corners(read(data)) == "RGBW"


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    expected = (ramp >> 8).astype(int)
    for data in (saved(PilImage.fromarray(ramp), "PNG"), saved(PilImage.fromarray(ramp), "TIFF")):
        assert np.abs(read(data)[..., 0].astype(int) - expected).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    pixels = np.zeros((10, 10, 4), np.uint8)
    pixels[:, 5:, 3] = 128
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        image = read(saved(PilImage.fromarray(pixels), kind, **options))
        assert (image[:, :5] == 255).all()
        assert np.abs(image[:, 5:].astype(int) - 127).max() <= 1


def test_a_transparent_palette_colour_is_white() -> None:
    image = quarters().convert("P", palette=PilImage.Palette.ADAPTIVE, colors=4)
    index = image.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        assert corners(read(saved(image, kind, transparency=index))) == "WGBW"


def test_the_first_frame_of_an_animation_is_read() -> None:
    second = PilImage.new("RGB", (64, 48), "black")
    for kind in ("GIF", "WEBP", "PNG"):
        data = saved(quarters(), kind, save_all=True, append_images=[second])
        assert corners(read(data)) == "RGBW"


UPRIGHT = {1: "RGBW", 2: "GRWB", 3: "WBGR", 4: "BWRG", 5: "RBGW", 6: "BRWG", 7: "WGBR", 8: "GWRB"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    if kind == "HEIF":
        data = heif(quarters(), exif=exif.tobytes())
    else:
        data = saved(quarters(), kind, exif=exif.tobytes() if kind != "TIFF" else exif)
    image = read(data)
    still = read_still(data, max_pixels=10**6)
    assert corners(image) == UPRIGHT[orientation]
    assert still.upright_size == image.shape[1::-1]


def test_damaged_exif_does_not_stop_an_image() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40):
        assert corners(read(saved(quarters(), "JPEG", exif=exif))) == "RGBW"


# --- limits


def png_of(width: int, height: int) -> bytes:
    """A small file that claims, and would decompress to, a huge image."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(1000), 9)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in chunks
    )


def test_a_huge_image_is_refused_in_milliseconds_without_memory() -> None:
    data = png_of(20_000, 20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.thread_time()
    with pytest.raises(ImageTooLarge, match="20000x20000"):
        read(data)
    assert time.thread_time() - started < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


@pytest.mark.parametrize("name", SAVERS)
def test_the_pixel_limit_holds_for_every_format(name: str) -> None:
    data = SAVERS[name](quarters())
    assert decode(data, max_pixels=64 * 48, max_bytes=10**6).shape == (48, 64, 3)
    with pytest.raises(ImageTooLarge):
        decode(data, max_pixels=64 * 48 - 1, max_bytes=10**6)


def test_the_byte_limit_comes_first(photo: bytes) -> None:
    with pytest.raises(ImageTooLarge, match="bytes"):
        decode(photo, max_pixels=10**9, max_bytes=len(photo) - 1)


def jpeg_of(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(saved(PilImage.new(mode, (64, 48)), "JPEG", **options))
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (jpeg_of(12_000, 9_000), True),
        (jpeg_of(9_248, 6_936), True),
        (jpeg_of(16_320, 12_240), True),
        (jpeg_of(16_384, 12_288), False),
        (jpeg_of(12_000, 9_000, progressive=True), True),
        (jpeg_of(16_320, 12_240, progressive=True), False),
        (jpeg_of(9_248, 6_936, "CMYK"), True),
        (jpeg_of(12_000, 9_000, "CMYK"), False),
        (png_of(9_248, 6_936), True),
        (png_of(10_000, 10_001), False),
    ],
)
def test_unless_it_is_set_the_pixel_limit_is_that_of_the_format(data: bytes, fits: bool) -> None:
    if fits:
        assert read_still(data, max_pixels=None).size[0] >= 9_000
    else:
        with pytest.raises(ImageTooLarge):
            read_still(data, max_pixels=None)
    with pytest.raises(ImageTooLarge):
        read_still(data, max_pixels=64_000_000)


def test_a_sequential_jpeg_in_several_scans_takes_the_memory_of_a_progressive_one() -> None:
    data = jpeg_of(12_000, 10_001)
    assert read_still(data, max_pixels=None).size == (12_000, 10_001)
    at = data.index(b"\xff\xda")
    alone = data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]
    with pytest.raises(ImageTooLarge, match="12000x10001"):
        read_still(alone, max_pixels=None)


def test_a_frame_larger_than_its_gif_does_not_warn_or_pass() -> None:
    data = bytearray(saved(PilImage.new("P", (4, 4)), "GIF"))
    at = data.index(b",", 13)
    data[at + 5 : at + 9] = (12000).to_bytes(2, "little") * 2
    with pytest.raises(ImageTooLarge):
        read(bytes(data))


# --- what is refused


@pytest.mark.parametrize("name", SAVERS)
def test_a_file_cut_at_sixty_percent_is_refused(name: str) -> None:
    noisy = PilImage.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    data = SAVERS[name](noisy)
    with pytest.raises(ImageTruncated):
        read(data[: len(data) * 6 // 10])


@pytest.mark.parametrize("garbage", [b"\0", b"\r\n", b"trailing" * 100, b"\xff\xd8\xff"])
def test_what_follows_the_end_of_a_jpeg_does_not_matter(photo: bytes, garbage: bytes) -> None:
    assert (read(photo + garbage) == read(photo)).all()


def test_stray_bytes_before_a_jpegs_end_marker_do_not_matter(photo: bytes) -> None:
    assert photo.endswith(b"\xff\xd9")
    assert read(photo[:-2] + b"\0\0\0\0\xff\xd9").shape == read(photo).shape


def test_an_odd_jpeg_that_is_also_cut_off_is_refused(photo: bytes) -> None:
    odd = photo[:11] + b"\x09" + photo[12:]  # JFIF revision 9
    assert read(odd).shape == read(photo).shape
    with pytest.raises(ImageTruncated):
        read(odd[: len(odd) * 6 // 10])


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"<svg xmlns=", "SVG"),
        (b'{"error": "no"}', "JSON"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42", "video"),
        (b"/9j/4AAQSkZJRg", "base64"),
        (b"plain words", "b'plain wo'"),
    ],
)
def test_what_is_not_an_image_is_rejected_with_what_was_found(data: bytes, hint: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=hint) as caught:
        read(data)
    assert len(caught.value.message) < 250


def test_no_data_at_all_is_refused_clearly() -> None:
    with pytest.raises(ImageTruncated, match="0 bytes"):
        read(b"")


# --- arbitrary bytes

STARTS = [
    b"\xff\xd8\xff\xe0",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x18ftypavif",
    b"\0\0\0\x18ftypheic",
    b"",
]


def refused_or_read(data: bytes) -> None:
    try:
        image = decode(data, max_pixels=100_000, max_bytes=1_000_000)
    except ImageError as error:
        if len(error.message) > 300:
            pytest.fail(error.message)
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.flags.c_contiguous


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_image_errors(start: bytes, rest: bytes) -> None:
    refused_or_read(start + rest)


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    return [save(quarters(24, 16)) for save in SAVERS.values()]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_images_raise_nothing_but_image_errors(samples: list[bytes], data: st.DataObject) -> None:
    broken = bytearray(data.draw(st.sampled_from(samples)))
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=6)):
        broken[at] = data.draw(st.integers(0, 255))
    refused_or_read(bytes(broken[: data.draw(st.integers(len(broken) // 2, len(broken)))]))


def test_pillows_warnings_do_not_reach_the_log() -> None:
    code = (
        "import io\nfrom PIL import Image\nfrom mien.vision.image import decode\n"
        "f = io.BytesIO(); Image.new('RGB', (4, 4)).save(f, 'PNG', exif=b'Exif\\0\\0II*\\0\\xff\\xff')\n"
        "decode(f.getvalue(), max_pixels=99, max_bytes=9999)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
