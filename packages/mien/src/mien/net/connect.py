"""Connections to checked addresses only: the name is resolved once, and what was checked is what is connected
to.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore2

from mien.net.guard import check_address

Resolver = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""Host name and port to the IP addresses to try, in order. Raises OSError."""


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """All IP addresses of the host, in the system's order. Raises socket.gaierror."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects after every address of the host has passed `check_address`.

    TLS is started later, by the connection, with the URL's host name: certificates are checked against the
    name.
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
