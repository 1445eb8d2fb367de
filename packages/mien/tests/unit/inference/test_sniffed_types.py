"""The media type of a payload: images by their first bytes, text by being UTF-8, or as declared."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.errors import InvalidField
from mien.inference.sniff import LOOK, bare, media_type


def image(kind: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (5, 4)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff"])
def test_images_are_distinguished(kind: str) -> None:
    assert media_type(image(kind)) == f"image/{kind}"
    assert media_type(memoryview(image(kind))) == f"image/{kind}"


@pytest.mark.parametrize(("brand", "mime"), [(b"avif", "image/avif"), (b"heic", "image/heic"), (b"mif1", "image/heic")])
def test_isobmff_images_are_distinguished(brand: bytes, mime: str) -> None:
    assert media_type(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand * 2 + b"\x80") == mime


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a cat",
        "猫の写真",
        "# Title\n- a",
        "123",
        "null",
        "{not json",
        "",
        "<b>x</b>",
        "hello, world\nfoo, bar\n",
        "a\tb\nc\td",
        "[1,2,3]",
        '{"a":1}',
        "BM is a company",
        "ID3",
        "%PDF-",
        "BEGIN:VCARD",
        "WEBVTT",
        "#!/bin/sh",
        "GIF89a is a format",
        "RIFFabcdWEBP is another",
        "II*",
        "with a \0 in it",
    ],
)
def test_valid_utf8_is_text_whatever_it_looks_like(text: str) -> None:
    assert media_type(text.encode()) == "text/plain"


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xff\xfe", b"\x80", b"ok\xc3", b"\x1f\x8b\x08\x00"])
def test_the_rest_is_binary(data: bytes) -> None:
    assert media_type(data) == "application/octet-stream"


@pytest.mark.parametrize("before", range(4))
def test_a_character_cut_at_the_sniffing_limit_is_accepted(before: int) -> None:
    assert media_type(b"a" * before + "猫".encode() * LOOK) == "text/plain"


@pytest.mark.parametrize(
    ("declared", "mime"),
    [
        ("image/png", "image/png"),
        (" Text/HTML; charset=utf-8", "text/html"),
        ("image/jpg", "image/jpeg"),
        ("application/vnd.x+json", "application/vnd.x+json"),
        ("", "text/plain"),
        (None, "text/plain"),
        ("application/octet-stream", "text/plain"),
    ],
)
def test_a_specific_declared_type_takes_precedence(declared: str | None, mime: str) -> None:
    assert media_type(b"hello", declared) == mime


@pytest.mark.parametrize("declared", ["jpeg", "image/", "/x", "image/a b", "a/b/c", "imäge/png"])
def test_a_declared_type_that_is_none_is_refused(declared: str) -> None:
    with pytest.raises(InvalidField, match="payload_mime"):
        bare(declared)


@given(st.binary(max_size=200))
def test_every_payload_has_a_type(data: bytes) -> None:
    major, _, minor = media_type(data).partition("/")
    assert major in ("image", "text", "application")
    assert minor


@given(st.text())
def test_no_text_without_control_characters_is_taken_for_an_image(text: str) -> None:
    text = "".join(character for character in text if character.isprintable())
    assert media_type(text.encode()) == "text/plain"
