"""At which size faces are looked for: a setting, and a parameter of every API that finds faces."""

from typing import Any, Literal, TypeAlias

DetectionSize: TypeAlias = int | Literal["auto", "full"]
"""The longest side, in pixels, to which an image is scaled down; `auto`: as small as faces of 20 pixels and of 1/110 of
the longest side allow; `full`: not at all."""

LEAST, MOST = 64, 4096


def parse_detection_size(value: Any) -> DetectionSize:
    """The size that a number or a text means. Raises ValueError saying what was expected."""
    if value == "auto" or value == "full":
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and LEAST <= value <= MOST:
        return value
    raise ValueError(f"expected `auto`, `full` or a number of pixels from {LEAST} to {MOST}")
