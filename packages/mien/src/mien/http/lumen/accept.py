"""What the caller wants its answer to look like, by its Accept header."""


def accepted(header: str) -> list[str]:
    """Media types of an Accept header, most wanted first, in lower case and without spaces; refused ones left out.

    Parameters other than the quality stay: `application/json;schema=face_v1` is a type of its own here.
    """
    ranked: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        kept = []
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = _quality(parameter[2:])
            elif parameter:
                kept.append(parameter)
        if kind and quality > 0:
            ranked.append((-quality, ";".join([kind, *kept])))
    ranked.sort(key=lambda pair: pair[0])
    return [kind for _, kind in ranked]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
