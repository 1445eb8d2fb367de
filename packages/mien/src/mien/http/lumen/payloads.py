"""Payload values: base64 as lenient decoders read it, lists of byte numbers, binary, and batches of these."""

from typing import Any

from mien.errors import BodyTooLarge, ImageError, ImageTooLarge, InvalidField
from mien.vision.base64 import decode_base64


def payloads_of(value: Any, *, is_raw_text: bool, max_bytes: int) -> tuple[bytes, ...]:
    """The payloads that a `payload` field holds: one, or several if it is a list of payloads.

    A list of numbers is one payload, its bytes; null or an empty list is one payload of no bytes. Raises InvalidField,
    BodyTooLarge.
    """
    if isinstance(value, list) and value and not _is_number(value[0]):
        return tuple(
            _payload(item, f"payload[{number}]", is_raw_text=is_raw_text, max_bytes=max_bytes)
            for number, item in enumerate(value)
        )
    return (_payload(value, "payload", is_raw_text=is_raw_text, max_bytes=max_bytes),)


def _payload(value: Any, where: str, *, is_raw_text: bool, max_bytes: int) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _utf8(value, where) if is_raw_text else _decoded(value, where, max_bytes)
    if isinstance(value, list) and all(_is_number(item) for item in value):
        try:
            return bytes(value)
        except ValueError:
            raise InvalidField(f"{where}: expected numbers from 0 to 255") from None
    raise InvalidField(f"{where}: expected base64 text, binary data or a list of byte values")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _decoded(text: str, where: str, max_bytes: int) -> bytes:
    try:
        return decode_base64(text, max_bytes=max_bytes)
    except ImageTooLarge as error:
        raise BodyTooLarge(f"{where}: {error.message}") from None
    except ImageError as error:
        raise InvalidField(f"{where}: {error.message}") from None


def _utf8(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidField(f"{where}: the text holds half of a surrogate pair") from None
