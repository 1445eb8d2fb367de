"""Payloads, and the form that sends them: bytes as they are, files in pieces from the disk."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TypeAlias

from inferencesh._content import Content, of_object
from infsh import File

Payload: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | File
"""A string is a text; a file is a path (`pathlib.Path`), an open file or a `File`."""


@dataclass(frozen=True, slots=True)
class Form:
    """`multipart/form-data`: text fields, then the payloads, as a `inferencesh._content.Body`."""

    fields: Mapping[str, str]
    contents: Sequence[Content]
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def headers(self) -> dict[str, str]:
        """With the length, so that a server can refuse a body that is too large before it is sent."""
        size = len(self._fields()) + len(self._end())
        size += sum(len(self._head(number)) + one.size + 2 for number, one in enumerate(self.contents))
        return {"Content-Type": f"multipart/form-data; boundary={self.boundary}", "Content-Length": str(size)}

    def pieces(self) -> Iterator[bytes]:
        """The bytes. Blocks; raises UploadError."""
        yield self._fields()
        for number, content in enumerate(self.contents):
            yield self._head(number)
            yield from content.pieces()
            yield b"\r\n"
        yield self._end()

    def close(self) -> None:
        """Remove temporary data of the payloads."""
        for content in self.contents:
            content.close()

    def _fields(self) -> bytes:
        parts = (
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.fields.items()
        )
        return "".join(parts).encode()

    def _head(self, number: int) -> bytes:
        place = f'form-data; name="payload"; filename="payload-{number}"'
        return (
            f"--{self.boundary}\r\nContent-Disposition: {place}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def form_of(fields: Mapping[str, str], payload: Payload | Sequence[Payload]) -> Form:
    """The form of one payload, or of the batch of several. Blocks; raises UploadError, TypeError."""
    payloads = list(payload) if isinstance(payload, list | tuple) else [payload]
    contents: list[Content] = []
    try:
        for one in payloads:
            contents.append(_content_of(one))  # noqa: PERF401 - those before a wrong one are closed
    except BaseException:
        Form(fields, contents).close()
        raise
    is_text = bool(payloads) and all(isinstance(one, str) for one in payloads)
    return Form({**({"payload_mime": "text/plain"} if is_text else {}), **fields}, contents)


def _content_of(payload: object) -> Content:
    if isinstance(payload, str):
        data = payload.encode()
        return Content(data, len(data))
    found = of_object(payload)
    if found is None:
        raise TypeError(f"a {type(payload).__name__} is no payload: give bytes, a text, a pathlib.Path or an open file")
    return found
