"""Parsing the metadata of requests: strings, checked against their ranges."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from mien.errors import InvalidField

TOP_K_KEYS = ("top_k", "topk", "TopK", "topK", "top-k", "lumen.top_k")
EVERYWHERE = frozenset({"timeout_ms", "service"})
"""Keys that the APIs read themselves: always known."""

_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def check_known(metadata: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise InvalidField naming every key that is not in `known`. Used in strict mode."""
    allowed = {*known, *EVERYWHERE}
    if unknown := sorted(set(metadata) - allowed):
        refuse(", ".join(unknown)[:200], f"unknown metadata; known are: {', '.join(sorted(allowed))}")


def top_k(metadata: Mapping[str, str], default: int, most: int) -> int:
    """The requested number of labels, at most `most`. Raises InvalidField, also if several spellings disagree."""
    found = {key: integer(metadata, key, default, low=1) for key in TOP_K_KEYS if given(metadata, key)}
    if len(set(found.values())) > 1:
        refuse(", ".join(found), "expected one number; these disagree")
    return min(next(iter(found.values()), default), most)


def number(
    metadata: Mapping[str, str], key: str, default: float, *, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite number in `low`..`high`. Raises InvalidField naming the key."""
    text = given(metadata, key)
    if not text:
        return default
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not (math.isfinite(value) and low <= value <= high):
        refuse(key, f"expected a number {_range(low, high)}; got {text[:40]!r}")
    return value


def integer(metadata: Mapping[str, str], key: str, default: int, *, low: int) -> int:
    """An integer of at least `low`. Raises InvalidField naming the key."""
    text = given(metadata, key)
    if not text:
        return default
    if not _INTEGER.fullmatch(text) or int(text) < low:
        refuse(key, f"expected a whole number {_range(low, math.inf)}; got {text[:40]!r}")
    return int(text)


def flag(metadata: Mapping[str, str], key: str, *, default: bool) -> bool:
    """A boolean: `true`, `false` or a synonym. Raises InvalidField naming the key."""
    text = given(metadata, key).lower()
    if text and text not in _TRUE | _FALSE:
        refuse(key, f"expected true or false; got {text[:40]!r}")
    return text in _TRUE if text else default


def given(metadata: Mapping[str, str], key: str) -> str:
    """The value of a key without surrounding whitespace; "" if it is absent."""
    return metadata.get(key, "").strip()


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "" if math.isinf(low) else f"of at least {low:g}"
    return f"in {low:g}..{high:g}"


def refuse(key: str, reason: str) -> NoReturn:
    """Raise InvalidField naming the metadata key."""
    message = f"metadata {key}: {reason}"
    raise InvalidField(message, ({"type": "metadata", "loc": ["metadata", key], "msg": message},))
