"""Request headers for the URLs that callers name: the callers' own, and the operator's."""

import re
from collections.abc import Mapping

import httpx2

from mien.config.fetch_headers import EVERY
from mien.errors import InvalidField
from mien.net.urls import origin, parse_url

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


class OperatorHeaders:
    """Headers for every URL, and further ones for those of some origins."""

    def __init__(self, configured: Mapping[str, str | Mapping[str, str]] | None) -> None:
        """`configured`: as in `mien.config.fetch_headers.FetchHeaders`. Raises InvalidField."""
        given = configured or {}
        scoped = {scope: headers for scope, headers in given.items() if not isinstance(headers, str)}
        every = {name: value for name, value in given.items() if isinstance(value, str)}
        self._every = {**check_headers(every), **check_headers(scoped.pop(EVERY, None))}
        self._by_origin = {origin(parse_url(scope)): check_headers(headers) for scope, headers in scoped.items()}

    def to(self, url: httpx2.URL) -> dict[str, str]:
        """Those for this URL, with names in lower case."""
        return {**self._every, **self._by_origin.get(origin(url), {})}


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
