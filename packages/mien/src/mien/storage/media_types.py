"""Which media types files may be stored as, and which a browser may show."""

INLINE = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/bmp",
        "image/avif",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/flac",
        "audio/mp4",
        "video/mp4",
        "video/webm",
        "video/quicktime",
        "text/plain",
        "application/json",
    }
)
"""Types that a browser may show in place: none of them can run scripts. All others are served as downloads."""

DEFAULT = "application/octet-stream"


def contradicts(declared: str, found: str | None) -> bool:
    """Whether content of type `found` must not be stored as `declared`.

    Refused is what could be used to smuggle: an image, sound or film that is not one, or markup under another name.
    Formats inside of zip archives and names for the same thing are no contradiction.
    """
    if declared == DEFAULT:
        return False
    family = declared.partition("/")[0]
    if found is None:
        return False
    if found == "application/zip":
        return family in ("image", "audio", "video", "text")
    if found in ("text/html", "image/svg+xml"):
        return family in ("audio", "video") or (family == "image" and declared != "image/svg+xml")
    same_family = found.partition("/")[0] == family
    media = {family, found.partition("/")[0]} <= {"audio", "video"}  # containers hold either
    return family in ("image", "audio", "video") and not (same_family or media)


def inline(content_type: str) -> bool:
    """Whether a browser may show it in place. What could run there (HTML, SVG, XML, PDF, unknown things) is always a
    download. Send `X-Content-Type-Options: nosniff` with every file: it makes the browser keep to the type."""
    return content_type in INLINE


def checked_type(declared: str | None) -> str | None:
    """The bare media type that a caller declared, in lower case; None for what is no media type."""
    kind = (declared or "").partition(";")[0].strip().lower()
    family, slash, name = kind.partition("/")
    plain = bool(slash and family and name) and len(kind) <= 120 and kind.isascii() and kind.isprintable()
    return kind if plain and not set(kind) & set(' "<>\\(),:?=') else None
