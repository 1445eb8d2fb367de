"""Identifiers: 26 unguessable characters that are safe in URLs, file names and any database."""

import secrets
import time

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS = 26 * 5


def ulid(now: float | None = None) -> str:
    """A new lower-case ULID: the time in milliseconds and 80 random bits. Sorts by creation time, to the millisecond.

    `now`: seconds since 1970.
    """
    return _base32((int((time.time() if now is None else now) * 1000) << 80) | secrets.randbits(80))


def random_id() -> str:
    """130 random bits: like a ULID, but without revealing when it was created."""
    return _base32(secrets.randbits(_BITS))


def _base32(number: int) -> str:
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(_BITS - 5, -1, -5))
