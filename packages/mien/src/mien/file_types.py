"""Media types sniffed from content, since file names and headers cannot be trusted."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-msdownload"),
    (b"\x93NUMPY", "application/x-npy"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    b"mif1": "image/heif",
    b"msf1": "image/heif",
}
"""Image types in ISO base media files (ISO/IEC 14496-12), by major or compatible brand."""
_MAJOR_BRANDS = {**_BRANDS, b"M4A ": "audio/mp4", b"qt  ": "video/quicktime"}
_MARKUP = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<svg", b"<?xml", b"<iframe", b"<!--")

SNIFF_BYTES = 512
"""How many leading bytes `sniff` examines."""


def sniff(start: bytes) -> str | None:
    """The media type of a file that starts with these bytes, or None. `text/html` stands for all markup but SVG."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return _iso_media(start)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_MARKUP):
        return "image/svg+xml" if text.startswith(b"<svg") or b"<svg" in text else "text/html"
    return None


def _iso_media(start: bytes) -> str:
    size = int.from_bytes(start[:4], "big")
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, min(size, len(start)), 4))]
    if not {b"avif", b"avis"}.isdisjoint(brands):  # AVIF files also list the HEIF brands
        return "image/avif"
    if brands[0] in _MAJOR_BRANDS:
        return _MAJOR_BRANDS[brands[0]]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "video/mp4")
