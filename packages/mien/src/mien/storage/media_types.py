"""What kind of file bytes are: looked up in the bytes themselves, since names and headers lie."""

_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"BM", 0, "image/bmp"),
    (b"II*\0", 0, "image/tiff"),
    (b"MM\0*", 0, "image/tiff"),
    (b"%PDF-", 0, "application/pdf"),
    (b"PK\x03\x04", 0, "application/zip"),
    (b"\x1f\x8b", 0, "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", 0, "application/x-7z-compressed"),
    (b"fLaC", 0, "audio/flac"),
    (b"ID3", 0, "audio/mpeg"),
    (b"\xff\xfb", 0, "audio/mpeg"),
    (b"OggS", 0, "audio/ogg"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
    (b"\x7fELF", 0, "application/x-executable"),
    (b"MZ", 0, "application/x-msdownload"),
    (b"\x93NUMPY", 0, "application/x-npy"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_MARKUP = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<svg", b"<?xml", b"<iframe", b"<!--")

SNIFF_BYTES = 512
"""How many bytes from the start are looked at."""

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


def sniff(start: bytes) -> str | None:
    """The type that the first bytes show, None if they show none. `text/html` stands for all markup."""
    for magic, at, kind in _MAGIC:
        if start[at : at + len(magic)] == magic:
            return kind
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "video/mp4")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_MARKUP):
        return "image/svg+xml" if text.startswith(b"<svg") or b"<svg" in text else "text/html"
    return None


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
