"""The format of an image by its first bytes."""

from mien import file_types
from mien.errors import ImageFormatUnsupported, ImageTruncated
from mien.vision.formats.raw import raw_format, raw_refused

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
    "image/heif": "HEIF",
}
"""Pillow's names for the formats that this server reads, by media type."""
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".jps"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif", ".heics", ".heifs"),
)
"""What names of files in these formats end with, in lower case. For searching folders: a file's bytes decide."""
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIF"
_SHOWN = 8


def sniff(data: bytes | memoryview) -> str:
    """The format by Pillow's name for it: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF.

    Raises ImageTruncated for empty data, ImageFormatUnsupported saying what was found for anything else.
    """
    head = bytes(data[:64])
    if not head:
        raise ImageTruncated("the image is empty: 0 bytes")
    raw = raw_format(head)
    if raw is not None:
        raise raw_refused(raw)
    kind = FORMATS.get(file_types.sniff(head) or "")
    if kind is not None:
        return kind
    raise ImageFormatUnsupported(f"not an image that this server reads ({READ}): the data {_found(head)}")


def _found(head: bytes) -> str:
    start = head.lstrip().lower()
    guess = ""
    if start.startswith((b"<!do", b"<htm")):
        guess = "; is this an HTML page?"
    elif start.startswith((b"<svg", b"<?xm")):
        guess = "; SVG and XML are not read"
    elif start.startswith((b"{", b"[")):
        guess = "; is this JSON?"
    elif start.startswith(b"%pdf"):
        guess = "; this is a PDF"
    elif head[4:8] == b"ftyp":
        guess = "; is this a video?"
    elif start.startswith((b"data:", b"/9j/", b"ivbor")):
        guess = "; is this base64 text that should have been decoded?"
    return f"starts with {head[:_SHOWN]!r}{guess}"
