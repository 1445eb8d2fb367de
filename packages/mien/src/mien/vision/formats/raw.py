"""Camera raw files: recognised, so that they are refused by name. The small image at the start of many is no stand-in.

None is decoded: what a camera's sensor saw becomes an image by choices that only a raw converter makes.
"""

from mien.errors import ImageFormatUnsupported

_MAGIC = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (6, b"HEAPCCDR", "Canon CRW"),
    (8, b"CR\2\0", "Canon CR2"),
    (4, b"ftypcrx ", "Canon CR3"),
)
"""Offset, bytes and name."""
_MAKERS = {
    "nikon": "Nikon NEF",
    "sony": "Sony ARW",
    "pentax": "Pentax PEF",
    "ricoh": "Pentax PEF",
    "samsung": "Samsung SRW",
    "hasselblad": "Hasselblad 3FR",
    "phase one": "Phase One IIQ",
    "leaf": "Leaf MOS",
    "mamiya": "Mamiya MEF",
    "epson": "Epson ERF",
    "seiko epson": "Epson ERF",
    "kodak": "Kodak DCR",
    "eastman kodak": "Kodak DCR",
    "canon": "Canon CR2",
    "panasonic": "Panasonic RW2",
    "olympus": "Olympus ORF",
}
"""Formats in TIFF, by the beginning of the camera's make."""


def raw_format(head: bytes) -> str | None:
    """The name of the camera raw format of a file that begins like this; None for others and for those in TIFF."""
    return next((name for at, magic, name in _MAGIC if head[at : at + len(magic)] == magic), None)


def raw_format_in_tiff(make: str) -> str | None:
    """The name of the format in which cameras of this make store raw images in TIFF; None for an unknown make."""
    known = make.strip().lower()
    return next((name for maker, name in _MAKERS.items() if known.startswith(maker)), None)


def raw_refused(name: str) -> ImageFormatUnsupported:
    """The error for a camera raw file in the format of this name."""
    return ImageFormatUnsupported(
        f"this is a camera raw file ({name}), which this server does not read; "
        "send it developed, or the JPEG preview that is in it"
    )
