"""Images: validated against the mode, and encoded for the wire."""
# ruff: noqa: TRY004 - an image that does not match the mode is a ValueError

import binascii
import io
import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable
from urllib.parse import unquote_to_bytes

from ifr_clients._messages import encode
from ifr_clients._pixels import encoder, is_array, is_pil


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self) -> bytes: ...


class Pixels(Protocol):
    """An array of numpy or an image of PIL; both have this property."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Deferred:
    """An image that still has to be read or encoded."""

    load: Callable[[], bytes]


Image: TypeAlias = "str | bytes | bytearray | memoryview | os.PathLike[str] | Readable | Pixels"
Accepted: TypeAlias = "str | bytes | Deferred"
"""A location in paths mode; an encoded image, or one still to be read or encoded, in data mode."""
Mode: TypeAlias = Literal["paths", "data"]
LARGE = 1024 * 1024  # bytes
LONGEST_PATH = 4096  # characters: longer texts that are not URLs are probably base64


def accept_all(data: Iterable[Image], mode: Mode) -> list[Accepted]:
    """The images, if all match `mode`. Raises ValueError or TypeError, which say what to do."""
    check_collection(data)
    return [accept(image, mode, f"data[{position}]") for position, image in enumerate(data)]


def check_collection(data: Any, *, asynchronous: bool = False) -> None:
    """Raises ValueError for a single image, TypeError for what is no collection of images."""
    kind = type(data).__name__
    single = isinstance(data, str | bytes | bytearray | memoryview | os.PathLike | Readable) or is_pil(data)
    if single or (is_array(data) and data.ndim < 4):
        raise ValueError(f"data is a single {kind}; expected a list of images: data=[…]")
    iterable = isinstance(data, Iterable) or (asynchronous and isinstance(data, AsyncIterable))
    if not iterable or isinstance(data, Mapping):
        raise TypeError(f"data is {kind}; expected a list of images: data=[…]")


def accept(image: Image, mode: Mode, name: str) -> Accepted:
    """The image, if it matches `mode`. Raises ValueError, in which it is called `name`."""
    if mode == "paths":
        return _accept_location(image, name)
    if mode == "data":
        return _accept_data(image, name)
    raise ValueError(f"mode is {mode!r}; expected 'paths' or 'data'")


def _accept_location(image: Image, name: str) -> str:
    if isinstance(image, os.PathLike):
        kind = "pathlib.Path" if isinstance(image, Path) else type(image).__name__
        raise ValueError(
            f"{name} is a {kind}, a file of this machine: send it with mode='data'. "
            "mode='paths' takes URLs, and paths on the server as text"
        )
    if not isinstance(image, str):
        raise ValueError(
            f"{name} is {type(image).__name__}: mode='paths' takes URLs and paths on the server; "
            "send images themselves with mode='data'"
        )
    if _is_data_uri(image):
        raise ValueError(f"{name} is a data: URI, which contains the image itself: send it with mode='data'")
    if len(image) > LONGEST_PATH and not _is_url(image):
        raise ValueError(
            f"{name} is a text of {len(image)} characters, which looks like base64 rather than a URL or path: "
            "send it with mode='data'"
        )
    try:
        image.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is {image[:80]!a}, which is not valid Unicode: {error.reason}") from None
    return image


def _accept_data(image: Image, name: str) -> bytes | Deferred:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, os.PathLike):
        return Deferred(Path(image).read_bytes)
    if not isinstance(image, str):
        return _accept_object(image, name)
    if _is_data_uri(image):
        return _decode_data_uri(image, name)
    if _is_url(image):
        raise ValueError(f"{name} is the URL {image[:80]!r}: let the server fetch it with mode='paths'")
    return _decode_base64(image, name)


def _accept_object(image: Readable | Pixels, name: str) -> Deferred:
    if encode_pixels := encoder(image, name):
        return Deferred(encode_pixels)
    if isinstance(image, Readable):
        return Deferred(lambda: _read(image, name))
    raise ValueError(
        f"{name} is {type(image).__name__}: mode='data' takes encoded images (JPEG, PNG, …) as bytes, pathlib.Path, "
        "open files, base64 text or data: URIs, and pixels as arrays of numpy or images of PIL"
    )


def _read(file: Readable, name: str) -> bytes:
    content = file.read()
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ValueError(
            f"{name} is an open file that reads {type(content).__name__}; expected bytes: open(path, 'rb')"
        )
    return bytes(content)


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
    """Whether preparing them would block an event loop for too long: files, pixels, or more than a megabyte."""
    sizes = [math.inf if isinstance(image, Deferred) else len(image) for image in images]
    return sum(sizes) > LARGE


def load(image: Accepted) -> str | bytes:
    """The image, read or encoded if that is still to be done. Raises OSError, ValueError, what an open file raises."""
    return image.load() if isinstance(image, Deferred) else image


def load_or_reason(image: Accepted) -> str | bytes | Exception:
    """Like `load`, but returns the error as a value."""
    try:
        return load(image)
    except Exception as error:  # noqa: BLE001 - whatever a caller's file raises concerns this image alone
        return error


def label(image: Any) -> str:
    """How messages name an image: by its location if it has one."""
    if isinstance(image, str):
        return repr(image if len(image) <= 120 else image[:119] + "…")
    if isinstance(image, Path):
        return repr(str(image))
    name = image.name if isinstance(image, io.IOBase | os.DirEntry) and hasattr(image, "name") else None
    return repr(name) if isinstance(name, str) else type(image).__name__


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
