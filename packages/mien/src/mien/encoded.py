"""JSON that is encoded once and then only passed on."""

from typing import Any

import msgspec
import orjson

from mien.errors import RequestError


class Encoded(msgspec.Struct, frozen=True):
    """A JSON value as its text. Whoever only stores or sends it never decodes it; equal texts are equal values."""

    text: str
    """As orjson writes it: no spaces, the order of fields kept, `/` not escaped."""

    @classmethod
    def of(cls, value: Any) -> "Encoded":
        """Raises RequestError for what JSON cannot hold."""
        try:
            return cls(orjson.dumps(value).decode())
        except TypeError as error:
            raise RequestError(f"this cannot be written as JSON: {error}") from None

    @property
    def value(self) -> Any:
        """The value, decoded anew each time: keep it where it is needed twice."""
        return orjson.loads(self.text)

    @property
    def size(self) -> int:
        """Bytes in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


NULL = Encoded("null")
