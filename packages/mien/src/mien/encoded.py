"""JSON that is encoded once and then passed through."""

from typing import Any

import msgspec
import orjson

from mien.errors import RequestError


class Encoded(msgspec.Struct, frozen=True):
    """A JSON value as text. Code that only stores or sends it never decodes it. Compares by text."""

    text: str
    """As orjson writes it: no spaces, field order kept, `/` not escaped."""

    @classmethod
    def of(cls, value: Any) -> "Encoded":
        """Encode `value`. Raises RequestError if JSON cannot represent it."""
        try:
            return cls(orjson.dumps(value).decode())
        except TypeError as error:
            raise RequestError(f"this cannot be written as JSON: {error}") from None

    @property
    def value(self) -> Any:
        """The value. Decodes on every access: keep the result if you need it twice."""
        return orjson.loads(self.text)

    @property
    def size(self) -> int:
        """Bytes in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


NULL = Encoded("null")
