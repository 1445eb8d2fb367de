"""URLs that callers name, fetched so that no caller can reach what only this server can (SSRF)."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import httpcore2
import httpx2

from mien.backoff import Backoff
from mien.errors import ImageTooLarge, MienError, SourceFailed, SourceNotFound, SourceRefused
from mien.net.connect import Resolver, open_pool, resolve, send
from mien.net.guard import REFUSAL
from mien.net.headers import OperatorHeaders, check_headers
from mien.net.urls import origin, parse_url, redacted

MAX_REDIRECTS = 5
BACKOFF = Backoff(first=0.2, most=60.0, jitter=(1.0, 1.25))
MAX_RETRY_AFTER = 5.0  # seconds
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_OWN_HEADERS = {"user-agent": "mien", "accept": "image/*, */*;q=0.5", "accept-encoding": "identity"}
SLOWEST = 64 * 1024
"""Bytes per second that a download into a sink needs on average, once it has taken the fetcher's `timeout`."""


class Sink(Protocol):
    """Takes a body as it arrives."""

    async def restart(self) -> None:
        """Forget what has been written: another attempt begins."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. What it raises ends the fetch."""


class _TransientError(Exception):
    """One attempt failed in a way that may not last; `retry_after`: the seconds that the server asks to wait."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class _Memory:
    """A sink that keeps the body."""

    def __init__(self) -> None:
        self.body = bytearray()

    async def restart(self) -> None:
        self.body.clear()

    async def write(self, chunk: bytes) -> None:
        self.body += chunk


class Fetcher:
    """Fetches URLs. Use from one event loop, any number of fetches at once.

    `timeout` is in seconds, for one URL with all its tries and redirects, not counting the wait for one of the
    `concurrency` slots. `headers` (see `mien.config.fetch_headers`) go with the requests to the origin that was asked
    for, and not to where it redirects.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout: float = 20.0,
        tries: int = 3,
        concurrency: int = 16,
        max_bytes: int = 32 * 1024 * 1024,
        too_large: type[MienError] = ImageTooLarge,
        headers: Mapping[str, str | Mapping[str, str]] | None = None,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._tries = tries
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._headers = OperatorHeaders(headers)
        self._slots = asyncio.Semaphore(concurrency)
        self._pool = open_pool(
            allow_private=allow_private, connections=concurrency, resolver=resolver, ssl_context=ssl_context
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections that are kept alive."""
        await self._pool.aclose()

    async def fetch(self, url: str, headers: Mapping[str, object] | None = None) -> bytes:
        """The body behind `url`, at most `max_bytes`.

        `headers` are added to the configured ones and override them. Raises SourceRefused for URLs that this server
        must not read, SourceNotFound for 404 and 410, ImageTooLarge, InvalidField for headers, and SourceFailed for
        everything else that goes wrong.
        """
        given = check_headers(headers)
        target = parse_url(url)
        sent = {**_OWN_HEADERS, **self._headers.to(target), **given}
        memory = _Memory()
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    fetch = _Fetch(target, memory, self._max_bytes, self._too_large, _OWN_HEADERS)
                    await fetch.run(self._pool, sent, self._tries)
            except TimeoutError:
                raise SourceFailed(f"{redacted(target)} took longer than {self._timeout:g} s") from None
        return bytes(memory.body)

    async def save(self, url: str, sink: Sink) -> str | None:
        """Pass the body behind `url` to `sink`; its media type.

        It may take as long as it is not slower than SLOWEST. Raises as `fetch` does, and what `sink` raises.
        """
        target = parse_url(url)
        own = {**_OWN_HEADERS, "accept": "*/*"}
        async with self._slots:
            fetch = _Fetch(target, sink, self._max_bytes, self._too_large, own, patience=self._timeout)
            return await fetch.run(self._pool, {**own, **self._headers.to(target)}, self._tries)


class _Fetch:
    """One fetch with its attempts."""

    def __init__(
        self,
        url: httpx2.URL,
        sink: Sink,
        limit: int,
        too_large: type[MienError],
        own: Mapping[str, str],
        *,
        patience: float | None = None,
    ) -> None:
        """`own`: the headers that any server may see. `patience`: seconds after which an attempt has to be faster than
        SLOWEST."""
        self._url = url
        self._sink = sink
        self._limit = limit
        self._too_large = too_large
        self._own = own
        self._patience = patience

    async def run(self, pool: httpcore2.AsyncConnectionPool, headers: dict[str, str], tries: int) -> str | None:
        """The media type that the server declares."""
        url = self._url
        for failures in range(tries):
            try:
                return await self._follow(pool, headers)
            except _TransientError as failure:
                if failures + 1 == tries:
                    raise SourceFailed(f"{redacted(url)} {failure.reason} ({tries} tries)") from None
                wait = BACKOFF.pause(failures) if failure.retry_after is None else failure.retry_after
            await asyncio.sleep(wait)
        raise SourceFailed(f"{redacted(url)} was not tried")

    async def _follow(self, pool: httpcore2.AsyncConnectionPool, headers: dict[str, str]) -> str | None:
        """One attempt: the request and its redirects."""
        current = self._url
        await self._sink.restart()
        for hop in range(MAX_REDIRECTS + 1):
            answer = await self._get(pool, current, headers, redirected=hop > 0)
            if not isinstance(answer, httpx2.URL):
                return answer
            if origin(answer) != origin(current):
                headers = dict(self._own)  # the caller's may be credentials, meant for the first origin only
            current = answer
        raise SourceFailed(f"{redacted(self._url)} redirects more than {MAX_REDIRECTS} times")

    async def _get(
        self, pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, headers: dict[str, str], *, redirected: bool
    ) -> str | httpx2.URL | None:
        """The media type of the body, which is in the sink, or the URL that the response redirects to. Errors name the
        first URL only."""
        asked = self._url
        try:
            async with send(pool, "GET", url, headers) as response:
                if response.status in _REDIRECTS:
                    return _redirect(asked, url, response)
                _check_status(asked, response)
                await self._body(response)
                return _header(response, b"content-type").partition(";")[0].strip().lower() or None
        except SourceRefused:  # the same words for every address: they must not tell what a name resolves to
            how = "redirects to an address that this server does not read" if redirected else f"was not read: {REFUSAL}"
            raise SourceRefused(f"{redacted(asked)} {how}") from None
        except MienError:
            raise
        except httpcore2.TimeoutException:
            raise _TransientError("did not answer in time") from None
        except ssl.SSLCertVerificationError:
            raise SourceFailed(f"{redacted(asked)} has no valid TLS certificate for its name") from None
        except (socket.gaierror, UnicodeError):
            raise _TransientError("names a host that cannot be found") from None
        except httpcore2.ConnectError as error:
            raise _connect_failure(asked, error) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            raise _TransientError("broke off its answer, or did not speak HTTP") from None

    async def _body(self, response: httpcore2.Response) -> None:
        asked, started = self._url, time.monotonic()
        encoding = _header(response, b"content-encoding").lower()
        if encoding not in ("", "identity"):  # a compressed body can expand to any size
            raise SourceFailed(
                f"{redacted(asked)} answers with the content encoding {encoding[:20]!r}, which was not requested"
            )
        length = _header(response, b"content-length")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._limit):
            raise self._exceeded()
        size = 0
        async for chunk in response.aiter_stream():
            size += len(chunk)
            if size > self._limit:
                raise self._exceeded()
            await self._sink.write(chunk)
            took = time.monotonic() - started
            if self._patience is not None and took > self._patience and size < took * SLOWEST:
                raise SourceFailed(f"{redacted(asked)} sent {size} bytes in {took:.0f} s, which is too slow")

    def _exceeded(self) -> MienError:
        return self._too_large(f"{redacted(self._url)} has more than {self._limit} bytes, the most that is read")


def _redirect(asked: httpx2.URL, current: httpx2.URL, response: httpcore2.Response) -> httpx2.URL:
    location = _header(response, b"location")
    if not location:
        raise SourceFailed(f"{redacted(asked)} redirects without saying where to")
    try:
        return parse_url(str(current.join(location)))
    except (httpx2.InvalidURL, ValueError):
        raise SourceFailed(f"{redacted(asked)} redirects to something that is not a URL") from None


def _check_status(asked: httpx2.URL, response: httpcore2.Response) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    if status in _GONE:
        raise SourceNotFound(f"{redacted(asked)} does not exist (HTTP {status})")
    if status == 429 or status >= 500:
        raise _TransientError(f"answered HTTP {status}", _retry_after(response))
    raise SourceFailed(f"{redacted(asked)} answered HTTP {status}")


def _retry_after(response: httpcore2.Response) -> float | None:
    """Seconds that the server asks to wait; None if it does not say, or asks for longer than a caller would wait."""
    value = _header(response, b"retry-after")
    return float(value) if value.isdigit() and int(value) <= MAX_RETRY_AFTER else None


def _connect_failure(asked: httpx2.URL, error: httpcore2.ConnectError) -> Exception:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return SourceFailed(f"{redacted(asked)} has no valid TLS certificate for its name")
    return _TransientError("cannot be connected to")


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((v.decode("latin-1").strip() for n, v in response.headers if n.lower() == name), "")
