"""Images: validated against the mode, and encoded for the wire."""
# ruff: noqa: TRY004 - anything that does not match the mode is a ValueError

import binascii
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from ifr_clients._messages import encode

Image: TypeAlias = "str | bytes | bytearray | memoryview | Path"
Accepted: TypeAlias = "str | bytes | Path"
"""A location in paths mode; bytes, or a file still to be read, in data mode."""
Mode: TypeAlias = Literal["paths", "data"]
LARGE = 1024 * 1024  # bytes
LONGEST_PATH = 4096  # characters: longer texts that are not URLs are probably base64


def accept_all(data: Iterable[Image], mode: Mode) -> list[Accepted]:
    """The images, if all match `mode`. Raises ValueError, which says what to do."""
    if isinstance(data, str | bytes | bytearray | memoryview | Path):
        raise ValueError(f"data is a single {type(data).__name__}; expected a list of images: data=[…]")
    return [accept(image, mode, f"data[{position}]") for position, image in enumerate(data)]


def accept(image: Image, mode: Mode, name: str) -> Accepted:
    """The image, if it matches `mode`. Raises ValueError, in which it is called `name`."""
    if mode == "paths":
        return _accept_location(image, name)
    if mode == "data":
        return _accept_data(image, name)
    raise ValueError(f"mode is {mode!r}; expected 'paths' or 'data'")


def _accept_location(image: Image, name: str) -> str:
    if isinstance(image, Path):
        raise ValueError(
            f"{name} is a pathlib.Path, a file of this machine: send it with mode='data'. "
            "mode='paths' takes URLs, and paths on the server as text"
        )
    if not isinstance(image, str):
        raise ValueError(
            f"{name} is {type(image).__name__}: mode='paths' takes URLs and paths on the server; "
            "send image bytes with mode='data'"
        )
    if _is_data_uri(image):
        raise ValueError(f"{name} is a data: URI, which contains the image itself: send it with mode='data'")
    if len(image) > LONGEST_PATH and not _is_url(image):
        raise ValueError(
            f"{name} is a text of {len(image)} characters, which looks like base64 rather than a URL or path: "
            "send it with mode='data'"
        )
    return image


def _accept_data(image: Image, name: str) -> bytes | Path:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Path):
        return image
    if not isinstance(image, str):
        raise ValueError(
            f"{name} is {type(image).__name__}: mode='data' takes encoded images (JPEG, PNG, …) as bytes, "
            "pathlib.Path, base64 text or a data: URI"
        )
    if _is_data_uri(image):
        return _decode_data_uri(image, name)
    if _is_url(image):
        raise ValueError(f"{name} is the URL {image[:80]!r}: let the server fetch it with mode='paths'")
    return _decode_base64(image, name)


def _is_url(text: str) -> bool:
    return "://" in text[:16]


def _is_data_uri(text: str) -> bool:
    return text[:5].lower() == "data:"


def _decode_data_uri(uri: str, name: str) -> bytes:
    head, comma, payload = uri.partition(",")
    if not comma:
        raise ValueError(f"{name} is a data: URI without a comma: {uri[:80]!r}")
    return _decode_base64(payload, name) if head.lower().endswith(";base64") else unquote_to_bytes(payload)


def _decode_base64(text: str, name: str) -> bytes:
    unbroken = "".join(text.split())  # MIME wraps lines
    try:
        return binascii.a2b_base64(unbroken, strict_mode=True)
    except ValueError as error:  # binascii.Error is one; so is text beyond ASCII
        raise ValueError(
            f"{name} is text but not base64 ({error}): {text[:80]!r}. For a file of this machine pass a "
            "pathlib.Path; URLs and paths on the server go with mode='paths'"
        ) from None


def is_slow(images: Iterable[Accepted]) -> bool:
    """Whether preparing them would block an event loop for too long: files, or more than a megabyte."""
    sizes = [math.inf if isinstance(image, Path) else len(image) for image in images]
    return sum(sizes) > LARGE


def load(image: Accepted) -> str | bytes:
    """The image, read from its file if it is a Path. Raises OSError."""
    return image.read_bytes() if isinstance(image, Path) else image


def load_or_reason(image: Accepted) -> str | bytes | OSError:
    """Like `load`, but returns the error as a value."""
    try:
        return load(image)
    except OSError as error:
        return error


def request_body(images: Sequence[str | bytes], fields: Mapping[str, Any], *, msgpack: bool) -> bytes:
    """The body of a request for these locations or encoded images. There must be at least one other field."""
    data = [image for image in images if isinstance(image, bytes)]
    if images and not data:
        return encode({"images": {"urls": list(images)}, **fields}, msgpack=msgpack)
    if msgpack:
        return encode({"images": {"data": data}, **fields}, msgpack=True)
    # Base64 needs no escaping: joining is three times as fast as a JSON encoder that checks for it.
    quoted = b",".join([b'"%b"' % binascii.b2a_base64(image, newline=False) for image in data])
    return b'{"images":{"data":[%b]},%b' % (quoted, encode(fields, msgpack=False)[1:])
