"""Which network addresses belong to the public internet: URLs from clients are fetched from there only."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address

_NAT64 = (IPv6Network("64:ff9b::/96"),)
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_V4_COMPATIBLE = IPv6Network("::/96")
_ISATAP = 0x5EFE

_REFUSED: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service at 100.100.100.200
        "168.63.129.16/32",  # Azure's host agent, on an address that looks public
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",  # NAT64 of a local network: the position of the embedded IPv4 address is not fixed
        "100::/64",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",  # holds AWS's metadata service fd00:ec2::254
        "fec0::/10",
    )
)
"""In addition to what the standard library considers private: its list differs between Python releases."""


def is_public(address: Address) -> bool:
    """Whether the address is an ordinary unicast address of the public internet.

    Not: loopback, private, link-local (with the clouds' metadata services), carrier-grade NAT, multicast,
    reserved, unspecified, documentation, and IPv6 addresses that embed such an IPv4 address.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if (inner := _embedded(address)) is not None:
            return all(is_public(one) for one in inner)
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...] | None:
    """The IPv4 addresses that packets to this IPv6 address would actually reach; None for an ordinary one."""
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or any(address in network for network in _NAT64):
        return (last,)
    if address in _6TO4:
        return (IPv4Address((number >> 80) & 0xFFFFFFFF),)
    if address in _TEREDO:
        return (IPv4Address((number >> 64) & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF))
    if address in _V4_COMPATIBLE:
        return (last,)
    if (number >> 32) & 0xFFFF == _ISATAP and (number >> 48) & 0xFDFF == 0:
        return (last,)
    return None
