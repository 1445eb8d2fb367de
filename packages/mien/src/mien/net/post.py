"""Sending to URLs that callers named (webhooks), with the same guard as fetching from them."""

import asyncio
import ssl
from collections.abc import Mapping

import httpcore2
import httpx2

from mien.errors import SourceFailed, SourceRefused
from mien.net.connect import Resolver, open_pool, resolve, send
from mien.net.urls import parse_url


class Poster:
    """Sends bodies by POST. Follows no redirects and reads no response body."""

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
        self._pool = open_pool(
            allow_private=allow_private, connections=concurrency, resolver=resolver, ssl_context=ssl_context
        )

    async def aclose(self) -> None:
        """Closes the connections that are kept alive."""
        await self._pool.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The response's status. Raises SourceRefused for URLs that this server must not connect to, SourceFailed when
        there is no response in time.
        """
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
        own = {"User-Agent": "mien", "Content-Length": str(len(body))}
        async with send(self._pool, "POST", url, {**own, **headers}, body) as response:
            return int(response.status)
