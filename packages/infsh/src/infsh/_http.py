"""Downloads a URL into a file: bounded, with retries, abortable. The only module that imports the HTTP client."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from infsh._environment import EnvironmentInvalid, client_options, said
from infsh._errors import FileUnavailable
from infsh._quiet import quiet_requests

_ATTEMPTS = 3
_TRANSIENT = {429, 502, 503, 504}
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
_MAX_REDIRECTS = 5


class Unreachable(FileUnavailable):
    """The server could not be reached or had a transient failure: a cached copy may be used."""


class Aborted(FileUnavailable):
    """The caller no longer wants the file."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response of a download, whose body is in the target file unless `unchanged`."""

    unchanged: bool
    headers: Mapping[str, str]
    size: int


def fetch(
    url: str,
    target: Path,
    *,
    limit: int,
    headers: Mapping[str, str] | None = None,
    abort: threading.Event | None = None,
) -> Reply:
    """Writes the body to `target`, which is removed on any error.

    `limit` is in bytes. For the app's own URLs: those of clients are fetched by the server.

    Raises Unreachable, Aborted, or FileUnavailable for errors that a retry cannot fix.
    """
    try:
        return _attempts(url, target, limit, dict(headers or {}), abort or threading.Event())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _attempts(url: str, target: Path, limit: int, headers: dict[str, str], abort: threading.Event) -> Reply:
    all_headers = {"User-Agent": "infsh", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
    try:
        options = client_options(url)
    except EnvironmentInvalid as error:
        raise FileUnavailable(f"Error downloading URL {url}: {error}.") from error
    with httpx2.Client(follow_redirects=True, max_redirects=_MAX_REDIRECTS, timeout=_TIMEOUT, **options) as client:
        for attempt in range(_ATTEMPTS):
            try:
                return _once(client, url, target, limit, all_headers, abort)
            except Unreachable:
                if attempt == _ATTEMPTS - 1:
                    raise
                abort.wait(0.1 * 3**attempt * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
    raise AssertionError  # pragma: no cover  # the last attempt returns or raises


def _once(
    client: httpx2.Client, url: str, target: Path, limit: int, headers: dict[str, str], abort: threading.Event
) -> Reply:
    try:
        with quiet_requests(), client.stream("GET", url, headers=headers) as response:
            if response.status_code == 304 and {"If-None-Match", "If-Modified-Since"} & headers.keys():
                return Reply(True, response.headers, 0)
            if response.status_code in _TRANSIENT:
                raise Unreachable(f"Error downloading URL {url}: the server responded with {response.status_code}.")
            if not response.is_success:
                raise FileUnavailable(f"Error downloading URL {url}: the server responded with {response.status_code}.")
            size = _save(response, url, target, limit, abort)
            return Reply(False, response.headers, size)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, UnicodeError) as error:
        raise FileUnavailable(f"Error downloading URL {url}: {error}.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise Unreachable(f"Error downloading URL {url}: {said(error, url)}.") from error


def _save(response: httpx2.Response, url: str, target: Path, limit: int, abort: threading.Event) -> int:
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise FileUnavailable(f"Error downloading URL {url}: it has {announced} bytes, more than the {limit} allowed.")
    size = 0
    try:
        with target.open("wb") as file:
            for chunk in response.iter_bytes(1 << 16):
                size += len(chunk)
                if abort.is_set():
                    raise Aborted(f"Error downloading URL {url}: it was cancelled.")
                if size > limit:
                    raise FileUnavailable(f"Error downloading URL {url}: it has more than the {limit} bytes allowed.")
                file.write(chunk)
    except OSError as error:
        raise FileUnavailable(f"Error downloading URL {url}: cannot write it: {error.strerror}.") from error
    return size
