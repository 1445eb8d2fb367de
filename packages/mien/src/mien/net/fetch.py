"""Images by URL, fetched so that no caller can reach what only this server can (SSRF)."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import httpcore2
import httpx2

from mien.backoff import Backoff
from mien.errors import ImageError, ImageTooLarge, SourceFailed, SourceNotFound, SourceRefused
from mien.net.connect import GuardedBackend, Resolver, resolve
from mien.net.guard import REFUSAL
from mien.net.headers import check_headers

MOST_REDIRECTS = 5
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
BACKOFF = Backoff(first=0.2, most=60.0, jitter=(1.0, 1.25))
LONGEST_RETRY_AFTER = 5.0
_MOST_URL = 8192
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_OWN_HEADERS = {"user-agent": "mien", "accept": "image/*, */*;q=0.5", "accept-encoding": "identity"}


class _CanPass(Exception):
    """A try failed in a way that may pass; `pause` is what the server asks to wait, in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


class Fetcher:
    """Fetches URLs; one per server. Use from one event loop, any number of fetches at once.

    `timeout` is in seconds, for one URL with all its tries and redirects; waiting for one of the
    `concurrency` places is not counted. `headers` go with every request to the host that was asked for, and
    not to where it redirects.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout: float = 20.0,
        tries: int = 3,
        concurrency: int = 16,
        max_bytes: int = 32 * 1024 * 1024,
        headers: Mapping[str, str] | None = None,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._tries = tries
        self._max_bytes = max_bytes
        self._headers = check_headers(headers)
        self._places = asyncio.Semaphore(concurrency)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=concurrency,
            max_keepalive_connections=concurrency,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(allow_private=allow_private, resolver=resolver),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the kept connections."""
        await self._pool.aclose()

    async def fetch(self, url: str, headers: Mapping[str, object] | None = None) -> bytes:
        """The body behind `url`, at most `max_bytes`.

        `headers` are added to the server's own, and win. Raises SourceRefused for URLs that this server must
        not read, SourceNotFound for 404 and 410, SourceFailed for everything that did not work out,
        ImageTooLarge, and InvalidField for headers.
        """
        sent = {**_OWN_HEADERS, **self._headers, **check_headers(headers)}
        target = parse_url(url)
        async with self._places:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._with_tries(target, sent)
            except TimeoutError:
                raise SourceFailed(f"{_shown(target)} took longer than {self._timeout:g} s") from None

    async def _with_tries(self, url: httpx2.URL, headers: dict[str, str]) -> bytes:
        for failures in range(self._tries):
            try:
                return await self._follow(url, headers)
            except _CanPass as failure:
                if failures + 1 == self._tries:
                    raise SourceFailed(f"{_shown(url)} {failure.reason} ({self._tries} tries)") from None
                wait = BACKOFF.pause(failures) if failure.pause is None else failure.pause
            await asyncio.sleep(wait)
        raise SourceFailed(f"{_shown(url)} was not tried")

    async def _follow(self, url: httpx2.URL, headers: dict[str, str]) -> bytes:
        """One try: the request and those that it is redirected to."""
        current = url
        for hop in range(MOST_REDIRECTS + 1):
            answer = await self._get(url, current, headers, redirected=hop > 0)
            if isinstance(answer, bytes):
                return answer
            if _origin(answer) != _origin(current):
                headers = dict(_OWN_HEADERS)
            current = answer
        raise SourceFailed(f"{_shown(url)} redirects more than {MOST_REDIRECTS} times")

    async def _get(
        self, asked: httpx2.URL, url: httpx2.URL, headers: dict[str, str], *, redirected: bool
    ) -> bytes | httpx2.URL:
        """The body, or where the answer redirects to. `asked` is the URL that errors may name."""
        try:
            async with self._answer(url, headers) as response:
                if response.status in _REDIRECTS:
                    return _redirect(asked, url, response)
                _check_status(asked, response)
                return await self._body(asked, response)
        except SourceRefused:
            how = "redirects to an address that this server does not read" if redirected else f"was not read: {REFUSAL}"
            raise SourceRefused(f"{_shown(asked)} {how}") from None
        except ImageError:
            raise
        except httpcore2.TimeoutException:
            raise _CanPass("did not answer in time") from None
        except ssl.SSLCertVerificationError:
            raise SourceFailed(f"{_shown(asked)} has no valid TLS certificate for its name") from None
        except (socket.gaierror, UnicodeError):
            raise _CanPass("names a host that cannot be found") from None
        except httpcore2.ConnectError as error:
            raise _connect_failure(asked, error) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            raise _CanPass("broke off its answer, or did not speak HTTP") from None

    @asynccontextmanager
    async def _answer(self, url: httpx2.URL, headers: dict[str, str]) -> AsyncIterator[httpcore2.Response]:
        # httpx2's parser splits the URL once, here; nothing parses it a second time in another way
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [(b"Host", url.netloc), *((n.encode(), v.encode("latin-1")) for n, v in headers.items())]
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": None}
        async with self._pool.stream("GET", target, headers=sent, extensions={"timeout": timeouts}) as response:
            yield response

    async def _body(self, asked: httpx2.URL, response: httpcore2.Response) -> bytes:
        if (coding := _header(response, b"content-encoding").lower()) not in ("", "identity"):
            raise SourceFailed(f"{_shown(asked)} answers in the coding {coding[:20]!r}, which was not asked for")
        length = _header(response, b"content-length")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large(asked)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large(asked)
        return bytes(body)

    def _too_large(self, asked: httpx2.URL) -> ImageTooLarge:
        return ImageTooLarge(f"{_shown(asked)} has more than {self._max_bytes} bytes, the most that is read")


def parse_url(url: str) -> httpx2.URL:
    """Raises SourceRefused for anything but an absolute http(s) URL without a user name."""
    if len(url) > _MOST_URL:
        raise SourceRefused(f"the URL has {len(url)} characters; at most {_MOST_URL} are read")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise SourceRefused("this is no valid URL") from None
    if parsed.scheme not in ("http", "https"):
        raise SourceRefused(f"only http and https URLs are read, not {parsed.scheme[:20]!r}")
    if not _HOST.fullmatch(parsed.raw_host.decode("ascii", "replace")):
        raise SourceRefused("the URL names no host" if not parsed.host else "the URL's host name is not valid")
    if not 0 < _port(parsed) < 65536:
        raise SourceRefused("the URL's port is not in 1..65535")
    if parsed.userinfo:
        raise SourceRefused("URLs with a user name or password are not read; send an Authorization header instead")
    return parsed


def _redirect(asked: httpx2.URL, current: httpx2.URL, response: httpcore2.Response) -> httpx2.URL:
    location = _header(response, b"location")
    if not location:
        raise SourceFailed(f"{_shown(asked)} redirects without saying where to")
    try:
        return parse_url(str(current.join(location)))
    except (httpx2.InvalidURL, ValueError):
        raise SourceFailed(f"{_shown(asked)} redirects to something that is no URL") from None


def _check_status(asked: httpx2.URL, response: httpcore2.Response) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    if status in _GONE:
        raise SourceNotFound(f"{_shown(asked)} does not exist (HTTP {status})")
    if status == 429 or status >= 500:
        raise _CanPass(f"answered HTTP {status}", _retry_after(response))
    raise SourceFailed(f"{_shown(asked)} answered HTTP {status}")


def _retry_after(response: httpcore2.Response) -> float | None:
    """Seconds the server asks to wait, None if it does not say or asks for more than is worth waiting."""
    value = _header(response, b"retry-after")
    return float(value) if value.isdigit() and int(value) <= LONGEST_RETRY_AFTER else None


def _connect_failure(asked: httpx2.URL, error: httpcore2.ConnectError) -> Exception:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return SourceFailed(f"{_shown(asked)} has no valid TLS certificate for its name")
    return _CanPass("cannot be connected to")


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((v.decode("latin-1").strip() for n, v in response.headers if n.lower() == name), "")


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, _port(url)


def _port(url: httpx2.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


def _shown(url: httpx2.URL) -> str:
    """The URL as errors show it: no query, no fragment, not long."""
    shown = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.path}"
    return shown if len(shown) <= 120 else shown[:117] + "…"
