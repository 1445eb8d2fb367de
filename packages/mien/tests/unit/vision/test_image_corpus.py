"""Every format, colour mode and depth is read with the pixels that Pillow sees. `full/test_image_corpus.py` has all
orientations, oddities and damage."""

import numpy as np
import pytest

from mien.errors import ImageError, ImageFormatUnsupported
from mien.vision.image import decode
from packages.mien.tests import image_corpus as corpus

FILES = corpus.files()
ODDITIES = [(kind, oddity) for kind, changes in corpus.ODDITIES.items() for oddity in changes]


def read(data: bytes) -> np.ndarray:
    """RGB."""
    return decode(data, max_pixels=10**6, max_bytes=10**8)[..., ::-1]


@pytest.fixture(scope="module", autouse=True)
def heif() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()


@pytest.mark.parametrize("name", FILES)
def test_what_pillow_writes_is_read_as_pillow_reads_it(name: str) -> None:
    data = FILES[name]()
    assert (read(data) == corpus.seen_by_pillow(data)).all()


@pytest.mark.parametrize(("depth", "colour"), corpus.PNGS)
@pytest.mark.parametrize("interlaced", [False, True])
def test_pngs_of_every_depth_are_read(depth: int, colour: int, interlaced: bool) -> None:
    data = corpus.png(depth, colour, interlaced=interlaced)
    assert (read(data) == corpus.seen_by_pillow(data)).all()


@pytest.mark.parametrize("name", corpus.BMPS)
def test_bmps_of_every_depth_are_read(name: str) -> None:
    data = corpus.BMPS[name]
    assert (read(data) == corpus.seen_by_pillow(data)).all()


@pytest.mark.parametrize("name", corpus.TIFFS)
def test_tiffs_of_every_layout_are_read(name: str) -> None:
    data = corpus.TIFFS[name]
    assert (read(data) == corpus.seen_by_pillow(data)).all()


def test_a_big_endian_bigtiff_is_refused_by_its_name() -> None:
    with pytest.raises(ImageFormatUnsupported, match="64 bits in big-endian order"):
        read(corpus.tiff(8, 3, order=">", big=True))


@pytest.mark.parametrize(("kind", "oddity"), ODDITIES)
def test_oddities_cost_no_pixel(kind: str, oddity: str) -> None:
    name = next(name for name in FILES if name.startswith(f"{kind} RGB"))
    data = FILES[name]()
    odd = corpus.ODDITIES[kind][oddity](data)
    assert odd != data
    assert (read(odd) == corpus.seen_by_pillow(data)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF"])
@pytest.mark.parametrize("damage", corpus.DAMAGE)
def test_what_is_cut_off_is_refused(kind: str, damage: str) -> None:
    name = next(name for name in FILES if name.startswith(f"{kind} RGB"))
    with pytest.raises(ImageError):
        read(corpus.DAMAGE[damage](FILES[name]()))
