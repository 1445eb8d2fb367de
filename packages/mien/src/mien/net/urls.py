"""URLs that callers name: which ones this server accepts, and how errors show them.

httpx2's parser splits a URL once, here, and nothing parses it again in another way: where two parsers disagree about
the host, the one that was checked is not the one that is connected to.
"""

import re

import httpx2

from mien.errors import SourceRefused

_MAX_LENGTH = 8192
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")


def parse_url(url: str) -> httpx2.URL:
    """The URL. Raises SourceRefused for anything but an absolute http(s) URL without a user name."""
    if len(url) > _MAX_LENGTH:
        raise SourceRefused(f"the URL has {len(url)} characters; at most {_MAX_LENGTH} are read")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise SourceRefused("this is not a valid URL") from None
    if parsed.scheme not in ("http", "https"):
        raise SourceRefused(f"only http and https URLs are read, not {parsed.scheme[:20]!r}")
    if not _HOST.fullmatch(parsed.raw_host.decode("ascii", "replace")):
        raise SourceRefused("the URL names no host" if not parsed.host else "the URL's host name is not valid")
    if not 0 < _port(parsed) < 65536:
        raise SourceRefused("the URL's port is not in 1..65535")
    if parsed.userinfo:
        raise SourceRefused("URLs with a user name or password are not read; send an Authorization header instead")
    return parsed


def origin(url: httpx2.URL) -> tuple[str, str, int]:
    """Scheme, host and port."""
    return url.scheme, url.host, _port(url)


def redacted(url: httpx2.URL) -> str:
    """The URL as errors show it: without query and fragment, which may hold secrets, and at most 120 characters."""
    text = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.path}"
    return text if len(text) <= 120 else text[:117] + "…"


def _port(url: httpx2.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port
