"""Media types: from a file's name, else from its first bytes."""

import mimetypes
from pathlib import Path

_NAMES = {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".glb": "model/gltf-binary",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".onnx": "application/octet-stream",
    ".safetensors": "application/octet-stream",
}
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"glTF", "model/gltf-binary"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_ISO = {
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"mif1": "image/heic",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_HEAD = 512


def from_name(name: str) -> str | None:
    """The type for the suffix of a file name or URL path; None if unknown."""
    suffix = Path(name).suffix.lower()
    return _NAMES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]


def from_content(path: Path) -> str | None:
    """The type detected from a file's first bytes; None if unknown or unreadable."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    return _sniff(head)


def extension(content_type: str) -> str:
    """The file suffix for this type, with its dot; empty if unknown."""
    for suffix, known in _NAMES.items():
        if known == content_type and content_type != "application/octet-stream":
            return suffix
    return mimetypes.guess_extension(content_type) or ""


def _sniff(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _ISO.get(head[8:12], "video/mp4")
    for start, content_type in _STARTS:
        if head.startswith(start):
            return content_type
    return _text(head)


def _text(head: bytes) -> str | None:
    if not head or b"\0" in head:
        return None
    try:
        text = head.decode("utf-8").lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character truncated at the end of `head`
            return None
        text = head[: error.start].decode("utf-8").lstrip()
    if text[:1] in {"{", "["}:
        return "application/json"
    if text[:5].lower() in {"<html", "<!doc"}:
        return "text/html"
    if "<svg" in text.lower():
        return "image/svg+xml"
    return "text/plain"
