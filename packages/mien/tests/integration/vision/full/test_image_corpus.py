"""Formats, modes and depths × orientations × oddities × damage, pixel by pixel as Pillow sees them."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image as PilImage

from mien.errors import ImageError, ImageTruncated
from mien.vision.image import decode, read_still
from packages.mien.tests import image_corpus as corpus

FILES = corpus.files()
UNUSUAL = ("JPEG CMYK half of the colours",)
"""Only Pillow decodes these JPEGs, and it does not tell whether data is missing."""


@pytest.fixture(scope="module", autouse=True)
def heif() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()


def read(data: bytes) -> np.ndarray:
    """RGB."""
    return decode(data, max_pixels=10**6, max_bytes=10**8)[..., ::-1]


def with_orientation(name: str, value: int) -> bytes:
    exif = PilImage.Exif()
    exif[0x0112] = value
    if name.startswith("TIFF"):
        return FILES[name](tiffinfo={0x0112: value})
    return FILES[name](exif=exif.tobytes())


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("GIF", "BMP"))])
def test_every_orientation_of_everything_is_read_as_pillow_reads_it(name: str) -> None:
    for value in range(1, 9):
        data = with_orientation(name, value)
        assert (read(data) == corpus.seen_by_pillow(data)).all(), value
        assert read_still(data, max_pixels=10**6).upright_size == read(data).shape[1::-1]


def oddities(name: str) -> dict[str, corpus.Change]:
    found = dict(corpus.ODDITIES[name.split()[0]])
    if name in UNUSUAL:
        del found["no end"]
    return found


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_subsampling_needs_an_end_marker(name: str) -> None:
    with pytest.raises(ImageTruncated, match="no end marker"):
        read(corpus.ODDITIES["JPEG"]["no end"](FILES[name]()))


@pytest.mark.parametrize("name", FILES)
def test_no_oddity_costs_a_pixel(name: str) -> None:
    data = FILES[name]()
    pixels = corpus.seen_by_pillow(data)
    for oddity, change in oddities(name).items():
        assert (read(change(data)) == pixels).all(), oddity


@pytest.mark.parametrize("name", FILES)
def test_two_oddities_cost_none_either(name: str) -> None:
    data = FILES[name]()
    pixels = corpus.seen_by_pillow(data)
    changes = {oddity: change for oddity, change in oddities(name).items() if "3 MB" not in oddity}
    for (first, change), (second, other) in itertools.combinations(changes.items(), 2):
        if not ({"end", "behind"} & set(first.split()) and {"end", "behind"} & set(second.split())):
            assert (read(other(change(data))) == pixels).all(), (first, second)


@pytest.mark.parametrize("name", FILES)
def test_wherever_a_file_is_cut_it_is_refused_or_whole(name: str) -> None:
    data = FILES[name]()
    pixels, refused = corpus.seen_by_pillow(data), 0
    places = {*range(len(data) - 30, len(data)), *range(20, len(data), max(1, len(data) // 60))}
    for length in sorted(places):
        try:
            image = read(data[:length])
        except ImageError:
            refused += 1
        else:
            assert (image == pixels).all(), length
    assert refused > len(places) // 2


@pytest.mark.parametrize("name", FILES)
def test_whatever_byte_is_damaged_the_size_is_right_or_the_file_refused(name: str) -> None:
    data, random = FILES[name](), np.random.default_rng(len(name))
    for at in random.integers(0, len(data), 60):
        broken = bytearray(data)
        broken[at] ^= 1 << int(random.integers(0, 8))
        try:
            image = read(bytes(broken))
        except ImageError:
            continue
        assert image.shape[1::-1] == read_still(bytes(broken), max_pixels=10**6).upright_size


def test_the_corpus_is_what_it_says() -> None:
    kinds = {PilImage.open(io.BytesIO(FILES[name]())).format for name in FILES}
    assert kinds == {"JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF", "BMP"}
    assert len(FILES) > 100
