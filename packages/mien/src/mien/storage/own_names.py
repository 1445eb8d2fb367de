"""The names of this server: which URLs lead to it."""

import socket
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from mien.hosts import ANY_ADDRESS, DEFAULT_PORTS, LOOPBACK, address_of, is_loopback, same_spelling


class _Place(NamedTuple):
    host: str
    port: int
    prefix: str
    """Of its paths; "" without a reverse proxy that adds one."""


class OwnNames:
    """Recognises base URLs of one server. No names are resolved: what DNS says is for others to change."""

    def __init__(self, listening_host: str, ports: Iterable[int], known: Iterable[str]) -> None:
        """`known`: base URLs that are this server's, whatever it listens on."""
        self._hosts = {_one_host(listening_host)} - ANY_ADDRESS
        self._any_address = _one_host(listening_host) in ANY_ADDRESS
        self._ports = frozenset(ports)
        self._known = frozenset(place for url in known if (place := _place(urlsplit(url), "")))

    def lead_here(self, url: SplitResult, prefix: str, base: str) -> bool:
        """Whether `url` is below a base URL of this server, `prefix` being its path's part before this server's.

        `base`: one at which the present client reaches it. A URL without a host is relative to that.
        """
        present = _place(urlsplit(base), "")
        if not url.scheme and not url.netloc:
            return prefix in ("", present.prefix if present else "")
        place = _place(url, prefix)
        if place is None:
            return False
        return place == present or place in self._known or (not prefix and self._listens_on(place))

    def _listens_on(self, place: _Place) -> bool:
        if place.port not in self._ports:
            return False
        return place.host in self._hosts or (self._any_address and _is_this_machine(place.host))


def _place(url: SplitResult, prefix: str) -> _Place | None:
    """None for what is no http(s) URL, or has a user name. The scheme is not part of it: a proxy may add TLS."""
    try:
        port = url.port
    except ValueError:
        return None
    if url.scheme not in DEFAULT_PORTS or not url.hostname or "@" in url.netloc:
        return None
    return _Place(_one_host(url.hostname), port or DEFAULT_PORTS[url.scheme], prefix or url.path.rstrip("/"))


def _one_host(host: str) -> str:
    """The host in lower case; one name for all those of the loopback host."""
    host = host.rstrip(".")
    return LOOPBACK if is_loopback(host) else same_spelling(host)


def _is_this_machine(host: str) -> bool:
    if host in (LOOPBACK, socket.gethostname().lower()):
        return True
    address = address_of(host)
    if address is None:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # only an address of this machine can be bound
            probe.bind((host, 0))
    except OSError:
        return False
    return True
