"""Which media types files may be stored as, and which ones a browser may display."""

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
"""Types that a browser may display inline: none of them can run scripts. All others are served as downloads."""

DEFAULT = "application/octet-stream"


def contradicts(declared: str, found: str | None) -> bool:
    """Whether content of the sniffed type `found` must not be stored as `declared`.

    Rejects what could smuggle content past a filter: images, audio or video that are none, and markup declared as
    media. Formats based on zip archives, and synonyms, do not contradict.
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
    media = {family, found.partition("/")[0]} <= {"audio", "video"}  # container formats can hold either
    return family in ("image", "audio", "video") and not (same_family or media)


def inline(content_type: str) -> bool:
    """Whether a browser may display it inline. Active content (HTML, SVG, XML, PDF, unknown types) is always a
    download. Send `X-Content-Type-Options: nosniff` with every file, or browsers may ignore the type."""
    return content_type in INLINE


def checked_type(declared: str | None) -> str | None:
    """The declared media type in lower case, without parameters; None if it is not a valid media type."""
    kind = (declared or "").partition(";")[0].strip().lower()
    family, slash, name = kind.partition("/")
    plain = bool(slash and family and name) and len(kind) <= 120 and kind.isascii() and kind.isprintable()
    return kind if plain and not set(kind) & set(' "<>\\(),:?=') else None
