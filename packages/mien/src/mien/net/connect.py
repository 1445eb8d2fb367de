"""Connections to allowed addresses only. A name is resolved once: the address that was checked is the one that is
connected to, whatever DNS answers a moment later (DNS rebinding).
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import httpx2

from mien.net.guard import check_address

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
KEEP_ALIVE = 15.0  # seconds

Resolver = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""Host name and port to the IP addresses to try, in order. Raises OSError."""


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """All IP addresses of the host, in the system's order. Raises socket.gaierror."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects once every address of the host has passed `check_address`.

    One private address among public ones refuses the host: which of them would answer is not ours to choose. TLS is
    started later, by the connection, with the URL's host name: certificates are checked against the name.
    """

    def __init__(self, *, allow_private: bool, resolver: Resolver = resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolver
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the interface of httpcore2
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to the first address that answers.

        Raises SourceRefused when any of the host's addresses is not allowed, httpcore2.ConnectError or
        ConnectTimeout.
        """
        failure: Exception = httpcore2.ConnectError("the host has no address")
        for address in await self._checked(host, port):
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _checked(self, host: str, port: int) -> tuple[str, ...]:
        addresses = await self._resolve(host.strip("[]"), port)
        return tuple(str(check_address(one, allow_private=self._allow_private)) for one in addresses)


def open_pool(
    *, allow_private: bool, connections: int, resolver: Resolver, ssl_context: ssl.SSLContext | None
) -> httpcore2.AsyncConnectionPool:
    """A pool of at most `connections` guarded connections."""
    return httpcore2.AsyncConnectionPool(
        ssl_context=ssl_context,
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=KEEP_ALIVE,
        network_backend=GuardedBackend(allow_private=allow_private, resolver=resolver),
    )


@asynccontextmanager
async def send(
    pool: httpcore2.AsyncConnectionPool,
    method: str,
    url: httpx2.URL,
    headers: Mapping[str, str],
    content: bytes | None = None,
) -> AsyncIterator[httpcore2.Response]:
    """One request; its response, body unread. Raises SourceRefused, httpcore2's errors, OSError."""
    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    sent = [(b"Host", url.netloc), *((name.encode(), value.encode("latin-1")) for name, value in headers.items())]
    timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": None}
    async with pool.stream(method, target, headers=sent, content=content, extensions={"timeout": timeouts}) as response:
        yield response
