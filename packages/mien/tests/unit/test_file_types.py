"""File types by content: one table for what the file store checks and what the image decoder reads."""

import pytest

from mien.file_types import sniff
from mien.storage.media_types import contradicts
from mien.vision.image_format import FORMATS
from mien.vision.image_format import sniff as image_format


def iso(major: bytes, *compatible: bytes) -> bytes:
    size = 16 + 4 * len(compatible)
    return size.to_bytes(4, "big") + b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible) + b"mdat" * 20


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (iso(b"heic", b"mif1", b"heic"), "image/heic"),
        (iso(b"heix"), "image/heic"),
        (iso(b"mif1", b"heic"), "image/heif"),
        (iso(b"mif1", b"avif", b"miaf"), "image/avif"),
        (iso(b"msf1", b"heic"), "image/heif"),
        (iso(b"isom", b"iso2", b"mp41"), "video/mp4"),
        (iso(b"qt  "), "video/quicktime"),
        (iso(b"M4A ", b"isom"), "audio/mp4"),
        (b"II+\0\x08", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"\xef\xbb\xbf <HTML>", "text/html"),
        (b"<?xml?><svg/>", "image/svg+xml"),
        (b"just text", None),
        (b"", None),
    ],
)
def test_the_content_tells(data: bytes, kind: str | None) -> None:
    assert sniff(data) == kind


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"avif", b"avis"])
def test_every_image_that_can_be_decoded_can_be_stored_as_one(brand: bytes) -> None:
    data = iso(brand)
    assert image_format(data) in FORMATS.values()
    assert not contradicts("image/heic", sniff(data))
