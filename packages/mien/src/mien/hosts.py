"""Hosts as Host headers, URLs and settings name them. No names are resolved: what DNS says is for others to change."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

DEFAULT_PORTS = {"http": 80, "https": 443}
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
"""Hosts to listen on that stand for every address of this machine."""
LOOPBACK = "localhost"

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(?::(\d{1,5}))?")


def split_authority(text: str) -> tuple[str, int | None] | None:
    """The host, in lower case and without brackets, and the port of `host[:port]`; None if it is no such thing."""
    match = _AUTHORITY.fullmatch(text.lower())
    return None if match is None else (match[1].strip("[]"), int(match[2]) if match[2] else None)


def same_spelling(host: str) -> str:
    """The host in lower case and without brackets; an address as its shortest form, IPv4 also if mapped into IPv6."""
    address = address_of(host)
    return host.lower() if address is None else str(address)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address, if the host is one."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    address = address_of(host)
    if address is not None:
        return address.is_loopback
    name = host.lower()
    return name == LOOPBACK or name.endswith(f".{LOOPBACK}")
