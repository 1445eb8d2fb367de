"""An HTTP transport that connects to the public internet only, whatever a URL, a redirect or a name server says.

A name is resolved once, all its addresses are checked, and the connection goes to a checked address: a second lookup
could return something else (DNS rebinding). Proxies are not used, since they resolve names themselves.
"""

import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

import httpcore2
import httpx2

from infsh._addresses import is_public


class NotPublic(Exception):
    """The host has an address outside of the public internet."""


class PublicTransport(httpx2.BaseTransport):
    """For `httpx2.Client(transport=...)`. Requests raise NotPublic, or the errors of httpcore2."""

    def __init__(self) -> None:
        self._pool = httpcore2.ConnectionPool(ssl_context=httpx2.create_ssl_context(), network_backend=_PublicBackend())

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Stream(response), extensions=response.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Stream(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _PublicBackend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connects to the first address that accepts. TLS is verified later, against the URL's host name."""
        failure: Exception = httpcore2.ConnectError("the host has no address")
        for address in _checked(host, port):
            try:
                return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


def _checked(host: str, port: int) -> tuple[str, ...]:
    """The addresses to try. The resolver also handles unusual notations of addresses, such as 0x7f000001."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
    if not all(is_public(ip_address(address)) for address in addresses):
        raise NotPublic("its host is not on the public internet")
    return addresses
