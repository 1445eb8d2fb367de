"""Which image format some bytes are in, by their first few."""

from mien.errors import ImageFormatUnsupported, ImageTruncated

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIF"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_SHOWN = 8


def sniff(data: bytes | memoryview) -> str:
    """The format by Pillow's name for it: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF.

    Raises ImageTruncated for no data at all, ImageFormatUnsupported that says what was found for anything
    else.
    """
    head = bytes(data[:64])
    if not head:
        raise ImageTruncated("the image is empty: 0 bytes")
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:8] == b"ftyp" and (kind := _isobmff(head)):
        return kind
    raise ImageFormatUnsupported(f"no image that this server reads ({READ}): the data {_found(head)}")


def _isobmff(head: bytes) -> str | None:
    """AVIF or HEIF by the brands in the file type box (ISO/IEC 14496-12), None for films and the like."""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


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
