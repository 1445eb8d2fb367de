"""Helper functions for programs that use the clients."""

import base64
import binascii
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def to_chunks(iterable: Iterable[T], size: int = 10) -> Iterator[list[T]]:
    """Lists of `size` items, in order; the last may be shorter. Reads at most one list ahead."""
    if size < 1:
        raise ValueError(f"size is {size}; expected 1 or more")
    items = iter(iterable)
    return iter(lambda: list(islice(items, size)), [])


def read_image(path: str | PathLike[str]) -> bytes:
    """The file's bytes, as `mode='data'` takes them. Raises OSError."""
    return Path(path).read_bytes()


def b64_encode_data(data: Iterable[bytes | str]) -> list[str]:
    """Each item in base64; texts, which are that already, as they are."""
    return [item if isinstance(item, str) else base64.b64encode(item).decode() for item in data]


def decode_face_data(response: dict[str, Any]) -> dict[str, Any]:
    """The same raw response, with base64 `facedata` decoded to JPEG bytes in place. Raises ValueError."""
    for image in response.get("data") or ():
        for face in image.get("faces") or ():
            if isinstance(face.get("facedata"), str):
                try:
                    face["facedata"] = binascii.a2b_base64(face["facedata"])
                except binascii.Error as error:
                    raise ValueError(f"a face's facedata is not valid base64: {error}") from None
    return response


def to_bool(text: str | bool) -> bool:
    """The truth value of words like `yes`, `off` and `1`. Raises ValueError for others."""
    if isinstance(text, bool):
        return text
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"{text!r} is not a truth value; expected one of {', '.join(_TRUE + _FALSE)}")
    return word in _TRUE
