"""The size ladder: at which sizes a detector looks at an image until it finds a face."""

SMALLER, LARGER = 320, 1280


def ladder(height: int, width: int, first: int) -> tuple[int, ...]:
    """Longest sides to try in order for a `height` × `width` image: `first`, then 320, then 1280.

    Faces that fill the image are found at the small size, tiny ones at the large. A size at which the
    image would look the same as at an earlier one (images are never enlarged) is left out, so there is
    always at least one.
    """
    longest = max(height, width)
    seen: dict[int, int] = {}
    for side in (first, SMALLER, LARGER):
        seen.setdefault(min(side, longest), side)
    return tuple(seen.values())
