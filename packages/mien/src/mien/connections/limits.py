"""How many connections, for how long, and how large the head of a request may be."""

import resource
from dataclasses import dataclass

from mien.errors import CannotListen
from mien.settings import Listening

RESERVED_CONNECTIONS = 32
"""Connections beyond the maximum, on which only liveness and readiness are answered."""
MOST_CONNECTIONS = 4096
"""Unless MIEN_MAX_CONNECTIONS says otherwise. An idle connection takes 3 to 6 kB."""
_USUAL_DESCRIPTORS = 65_536
_OTHER_DESCRIPTORS = 256
"""For models, the database, files, workers, nodes and URLs that are fetched."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one server's HTTP connections: sizes in bytes, times in seconds."""

    connections: int
    url_bytes: int
    header_bytes: int
    headers: int
    head_seconds: float
    keep_alive_seconds: float
    stalled_seconds: float

    @classmethod
    def from_settings(cls, listening: Listening) -> "ConnectionLimits":
        """Raises CannotListen if this process may not open enough files for MIEN_MAX_CONNECTIONS."""
        return cls(
            connections=_connections(listening.max_connections),
            url_bytes=listening.max_url_bytes,
            header_bytes=listening.max_header_bytes,
            headers=listening.max_headers,
            head_seconds=listening.header_seconds,
            keep_alive_seconds=listening.keep_alive_seconds,
            stalled_seconds=listening.stalled_seconds,
        )


def _connections(wanted: int | None) -> int:
    """The maximum number of connections. Descriptors are raised to what the system allows for it."""
    descriptors = _raise_descriptors(max(_USUAL_DESCRIPTORS, 2 * (wanted or 0)))
    others = max(_OTHER_DESCRIPTORS, descriptors // 8) if descriptors >= 2 * _OTHER_DESCRIPTORS else descriptors // 2
    possible = max(1, descriptors - others - RESERVED_CONNECTIONS)
    if wanted is None:
        return min(MOST_CONNECTIONS, possible)
    if wanted > possible:
        raise CannotListen(
            f"MIEN_MAX_CONNECTIONS is {wanted}, but this process may open {descriptors} files, which is enough for "
            f"{possible} connections; raise the limit (ulimit -n, LimitNOFILE=) or lower MIEN_MAX_CONNECTIONS"
        )
    return wanted


def _raise_descriptors(wanted: int) -> int:
    """Raise the soft limit of open files as far as the hard limit lets it, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (ValueError, OSError):  # macOS has another limit below an unlimited hard one
        return soft
    return target
