"""Telling other servers something, under the same guard as reading from them."""

import asyncio
import ssl
from collections.abc import Mapping

import httpcore2
import httpx2

from mien.errors import SourceFailed, SourceRefused
from mien.net.connect import GuardedBackend, Resolver, resolve
from mien.net.fetch import CONNECT_TIMEOUT, READ_TIMEOUT, parse_url


class Poster:
    """Sends bodies by POST to URLs that callers gave. Follows no redirects and reads no answer's body."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout: float = 15.0,
        concurrency: int = 16,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=concurrency,
            max_keepalive_connections=concurrency,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(allow_private=allow_private, resolver=resolver),
        )

    async def aclose(self) -> None:
        """Closes the kept connections."""
        await self._pool.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The answer's status. Raises SourceRefused for URLs that this server must not connect to, SourceFailed when
        there is no answer in time."""
        target = parse_url(url)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(target, body, headers)
        except (TimeoutError, httpcore2.TimeoutException):
            raise SourceFailed(f"no answer within {self._timeout:g} s") from None
        except SourceRefused:
            raise
        except (httpcore2.NetworkError, httpcore2.ProtocolError, UnicodeError, OSError):
            raise SourceFailed("cannot be connected to, or broke off, or does not speak HTTP") from None

    async def _send(self, url: httpx2.URL, body: bytes, headers: Mapping[str, str]) -> int:
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [
            (b"Host", url.netloc),
            (b"User-Agent", b"mien"),
            (b"Content-Length", str(len(body)).encode()),
            *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
        ]
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": None}
        stream = self._pool.stream("POST", target, headers=sent, content=body, extensions={"timeout": timeouts})
        async with stream as response:
            return int(response.status)
