"""What a request's metadata says: strings, checked against their ranges."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from mien.errors import InvalidField
from mien.services.faces import FaceOptions

THRESHOLD, NMS, SIZE_MIN, SIZE_MAX, MAX_FACES = FACE_KEYS = (
    "detection_confidence_threshold", "nms_threshold", "face_size_min", "face_size_max", "max_faces",
)  # fmt: skip
TOP_K_KEYS = ("top_k", "topk", "TopK", "topK", "top-k", "lumen.top_k")
EVERYWHERE = frozenset({"timeout_ms", "service"})
"""Keys that doors read themselves: never unknown."""

_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def check_known(metadata: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise InvalidField that names every key outside `known`: what strict mode asks for."""
    allowed = {*known, *EVERYWHERE}
    if unknown := sorted(set(metadata) - allowed):
        _refuse(", ".join(unknown)[:200], f"no such metadata here; there are: {', '.join(sorted(allowed))}")


def face_options(metadata: Mapping[str, str], default_threshold: float, *, embedding: bool) -> FaceOptions:
    """The five face keys as options; keys that are absent or blank keep the server's defaults.

    Raises InvalidField that names the key.
    """
    smallest = number(metadata, SIZE_MIN, 0.0, low=0)
    largest = number(metadata, SIZE_MAX, 0.0, low=0)
    if 0 < largest < smallest:
        _refuse(SIZE_MIN, f"expected at most {SIZE_MAX}, which is {largest:g}; got {smallest:g}")
    return FaceOptions(
        threshold=number(metadata, THRESHOLD, default_threshold, low=0, high=1),
        nms_threshold=number(metadata, NMS, 0.0, low=0, high=1) if _given(metadata, NMS) else None,
        embedding=embedding,
        landmarks=True,
        limit=max(0, integer(metadata, MAX_FACES, 0, low=-1)),
        min_size=smallest,
        max_size=largest,
    )


def top_k(metadata: Mapping[str, str], default: int, most: int) -> int:
    """How many labels are wanted, at most `most`. Raises InvalidField, also for spellings that disagree."""
    found = {key: integer(metadata, key, default, low=1) for key in TOP_K_KEYS if _given(metadata, key)}
    if len(set(found.values())) > 1:
        _refuse(", ".join(found), "expected one number; these disagree")
    return min(next(iter(found.values()), default), most)


def number(
    metadata: Mapping[str, str], key: str, default: float, *, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite number in `low`..`high`. Raises InvalidField that names the key."""
    text = _given(metadata, key)
    if not text:
        return default
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not (math.isfinite(value) and low <= value <= high):
        _refuse(key, f"expected a number {_range(low, high)}; got {text[:40]!r}")
    return value


def integer(metadata: Mapping[str, str], key: str, default: int, *, low: int) -> int:
    """A whole number of at least `low`. Raises InvalidField that names the key."""
    text = _given(metadata, key)
    if not text:
        return default
    if not _INTEGER.fullmatch(text) or int(text) < low:
        _refuse(key, f"expected a whole number {_range(low, math.inf)}; got {text[:40]!r}")
    return int(text)


def flag(metadata: Mapping[str, str], key: str, *, default: bool) -> bool:
    """`true` or `false` and their synonyms. Raises InvalidField that names the key."""
    text = _given(metadata, key).lower()
    if text and text not in _TRUE | _FALSE:
        _refuse(key, f"expected true or false; got {text[:40]!r}")
    return text in _TRUE if text else default


def _given(metadata: Mapping[str, str], key: str) -> str:
    return metadata.get(key, "").strip()


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "" if math.isinf(low) else f"of at least {low:g}"
    return f"in {low:g}..{high:g}"


def _refuse(key: str, reason: str) -> NoReturn:
    message = f"metadata {key}: {reason}"
    raise InvalidField(message, ({"type": "metadata", "loc": ["metadata", key], "msg": message},))
