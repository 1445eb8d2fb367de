"""Which network addresses this server may connect to on behalf of others (server-side request forgery)."""

from ipaddress import ip_address

from infsh._addresses import Address, is_public
from mien.errors import SourceRefused

REFUSAL = "its host is not on the public internet; this server reads public URLs only (MIEN_FETCH_PRIVATE)"
"""The same words for every refused address: they do not tell what is at that address."""


def check_address(address: str | Address, *, allow_private: bool = False) -> Address:
    """The address, if this server may connect to it. Raises SourceRefused, also for what is no address."""
    try:
        parsed = ip_address(address) if isinstance(address, str) else address
    except ValueError:
        raise SourceRefused(f"the URL was not read: {REFUSAL}") from None
    if not allow_private and not is_public(parsed):
        raise SourceRefused(f"the URL was not read: {REFUSAL}")
    return parsed
