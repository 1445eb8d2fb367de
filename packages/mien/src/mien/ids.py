"""Identifiers: 26 characters that nobody can guess, safe in URLs, file names and every database."""

import secrets
import time

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS = 26 * 5


def ulid(now: float | None = None) -> str:
    """A fresh ULID, lower case: the time in milliseconds and 80 random bits. Sorts by age, to the millisecond.

    `now`: seconds since 1970.
    """
    return _base32((int((time.time() if now is None else now) * 1000) << 80) | secrets.randbits(80))


def random_id() -> str:
    """130 random bits: like a ULID, but it does not tell when it was made."""
    return _base32(secrets.randbits(_BITS))


def _base32(number: int) -> str:
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(_BITS - 5, -1, -5))
