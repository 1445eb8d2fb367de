"""Request headers that callers may set for the URLs that they name."""

import re
from collections.abc import Mapping

from mien.errors import InvalidField

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_MAX_HEADERS = 64


def check_headers(headers: Mapping[str, object] | None) -> dict[str, str]:
    """The headers with names in lower case. Raises InvalidField for names or values that must not or cannot be sent.

    Values are never repeated in errors: they may be secrets.
    """
    if not headers:
        return {}
    if len(headers) > _MAX_HEADERS:
        raise InvalidField(f"{len(headers)} headers; at most {_MAX_HEADERS} are sent along")
    return dict(_checked(name, value) for name, value in headers.items())


def _checked(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidField(f"{str(name)[:64]!r} is not a header name")
    if name.lower() in _RESERVED:
        raise InvalidField(f"the header {name!r} is set by this server and cannot be given")
    if not isinstance(value, str):
        raise InvalidField(f"the header {name!r} needs a string, not {type(value).__name__}")
    if not _VALUE.fullmatch(value):
        raise InvalidField(f"the header {name!r} holds a line break or the like, or is longer than 8192")
    return name.lower(), value
