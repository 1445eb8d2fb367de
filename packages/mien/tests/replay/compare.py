"""Where a replayed answer differs from the recorded one, in words."""

import re
from collections.abc import Iterator
from typing import Any

TOLERANCE = 1e-4
MOST_SHOWN = 160
_DECIMAL = re.compile(r"\d+\.\d{4,}")
"""A number in a command's output, which the last bit of a float may round up on one kind of CPU and down on another."""


def differences(recorded: Any, replayed: Any, place: str = "") -> Iterator[str]:
    """One sentence for each difference. Floats may differ by 1e-4, absolutely or of their size, those in text by one
    in the last place; the order of keys and the types of numbers may not differ."""
    if isinstance(recorded, float) and isinstance(replayed, float):
        if abs(recorded - replayed) > TOLERANCE * max(1.0, abs(recorded)):
            yield _said(place, recorded, replayed)
    elif isinstance(recorded, dict) and isinstance(replayed, dict):
        yield from _of_maps(recorded, replayed, place)
    elif isinstance(recorded, list) and isinstance(replayed, list):
        if len(recorded) != len(replayed):
            yield f"{place or 'answer'}: recorded {len(recorded)} items, now {len(replayed)}"
        for number, (old, new) in enumerate(zip(recorded, replayed, strict=False)):
            yield from differences(old, new, f"{place}[{number}]")
    elif isinstance(recorded, str) and isinstance(replayed, str):
        if recorded != replayed and not _same_text(recorded, replayed):
            yield _said(place, recorded, replayed)
    elif type(recorded) is not type(replayed) or recorded != replayed:
        yield _said(place, recorded, replayed)


def _same_text(recorded: str, replayed: str) -> bool:
    """Whether two texts differ by no more than the rounding of their decimals."""
    old, new = _DECIMAL.findall(recorded), _DECIMAL.findall(replayed)
    return _DECIMAL.sub("0.0", recorded) == _DECIMAL.sub("0.0", replayed) and all(
        abs(int(was.replace(".", "")) - int(now.replace(".", ""))) <= 1 and was.index(".") == now.index(".")
        for was, now in zip(old, new, strict=True)
    )


def _of_maps(recorded: dict[str, Any], replayed: dict[str, Any], place: str) -> Iterator[str]:
    dot = f"{place}." if place else ""
    for key in recorded:
        if key not in replayed:
            yield f"{dot}{key}: recorded {_short(recorded[key])}, now missing"
        else:
            yield from differences(recorded[key], replayed[key], f"{dot}{key}")
    for key in replayed:
        if key not in recorded:
            yield f"{dot}{key}: new, {_short(replayed[key])}"
    if list(recorded) != list(replayed) and set(recorded) == set(replayed):
        yield f"{place or 'answer'}: the keys come in another order: recorded {list(recorded)}, now {list(replayed)}"


def _said(place: str, recorded: Any, replayed: Any) -> str:
    return f"{place or 'answer'}: recorded {_short(recorded)}, now {_short(replayed)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
