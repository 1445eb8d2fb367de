"""Images of every format, colour mode and depth, made by real encoders or byte by byte; what Pillow sees in them; and
what happens to files: oddities that cost no pixel, and damage."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps

WIDTH, HEIGHT = 61, 45
Change = Callable[[bytes], bytes]


@cache
def colours() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows * 5, columns * 4, rows * 2 + columns], axis=-1).astype(np.uint8)


def image(mode: str) -> PilImage.Image:
    """The same picture in a mode of Pillow; `P16` has a palette of 16 colours, and so on."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    plain, alpha = PilImage.fromarray(colours()), PilImage.fromarray((columns * 7 + rows * 3).astype(np.uint8))
    if mode == "RGBA":
        return PilImage.merge("RGBA", [*plain.split(), alpha])
    if mode == "LA":
        return PilImage.merge("LA", [plain.convert("L"), alpha])
    if mode.startswith("I;16"):
        return PilImage.fromarray((rows * 1400 + columns * 3).astype(">u2" if mode == "I;16B" else "<u2"))
    if mode.startswith("P"):
        return plain.quantize(int(mode[1:] or 64))
    return plain.convert(mode)


def saved(picture: PilImage.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def seen_by_pillow(data: bytes) -> np.ndarray:
    """[H, W, 3] RGB: upright, transparency on white, the upper 8 of 16 bits of gray."""
    opened = ImageOps.exif_transpose(PilImage.open(io.BytesIO(data)))
    if opened.mode.startswith("I;16"):
        return np.repeat((np.asarray(opened) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    if not opened.has_transparency_data:
        return np.asarray(opened.convert("RGB"))
    paper = PilImage.new("RGBA", opened.size, "white")
    paper.alpha_composite(opened.convert("RGBA"))
    return np.asarray(paper.convert("RGB"))


# --- files

JPEGS = {
    "baseline": {},
    "all colours": {"subsampling": 0},
    "half of the colours": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
}
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "group3", "group4")
_BITS_ONLY = {"group3", "group4"}
_NO_JPEG = {"1", "P", "P16", "LA", "RGBA", "I;16", "I;16B", "LAB"}


def files() -> dict[str, Callable[..., bytes]]:
    """What encodes the picture, by name, with further options such as `exif`. The first word is the format."""
    found: dict[str, Callable[..., bytes]] = {}

    def add(name: str, kind: str, mode: str, **options: object) -> None:
        found[name] = lambda **more: saved(image(mode), kind, **options, **more)

    for name, options in JPEGS.items():
        for mode in ("L", "RGB", "CMYK"):
            add(f"JPEG {mode} {name}", "JPEG", mode, **options)
    for mode in ("1", "L", "P", "P16", "P4", "P2", "RGB", "RGBA", "LA", "I;16"):
        add(f"PNG {mode}", "PNG", mode)
    for mode in ("L", "RGB", "RGBA", "P", "LA"):
        add(f"WEBP {mode} lossy", "WEBP", mode)
        add(f"WEBP {mode} lossless", "WEBP", mode, lossless=True)
    for mode in ("1", "L", "P", "P16", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B"):
        for compression in COMPRESSIONS:
            if (compression in _BITS_ONLY) <= (mode == "1") and not (compression == "jpeg" and mode in _NO_JPEG):
                add(f"TIFF {mode} {compression}", "TIFF", mode, compression=compression, strip_size=1000)
    for mode in ("L", "LA", "RGB", "RGBA"):
        add(f"AVIF {mode}", "AVIF", mode, speed=10)
        add(f"HEIF {mode}", "HEIF", mode, quality=90)
    for mode in ("1", "L", "P", "P4", "RGB", "RGBA"):
        add(f"GIF {mode}", "GIF", mode)
        add(f"GIF {mode} interlaced", "GIF", mode, interlace=1)
    for mode in ("1", "L", "P", "P16", "RGB", "RGBA"):
        add(f"BMP {mode}", "BMP", mode)
    return found


def chunk(kind: bytes, body: bytes, checksum: int = 0) -> bytes:
    """A chunk of a PNG; its checksum is changed by `checksum`."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ checksum)


def png(depth: int, colour: int, *, interlaced: bool = False) -> bytes:
    """A PNG of any kind: gray (colour 0), RGB (2), gray with alpha (4) or RGBA (6), of noise."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    noise, rows = np.random.default_rng(depth * 10 + colour), b""
    for left, top, across, down in steps if interlaced else [(0, 0, 1, 1)]:
        width = len(range(left, WIDTH, across))
        for _ in range(top, HEIGHT, down):
            rows += b"\0" + noise.bytes((width * channels * depth + 7) // 8) if width else b""
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PNGS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]
"""Depth and colour."""


def bmp(bits: int, *, masks: tuple[int, ...] = (), upside_down: bool = False) -> bytes:
    """A BMP of noise: with colour masks, or with its rows from top to bottom."""
    stride = (WIDTH * bits + 31) // 32 * 4
    palette = np.random.default_rng(1).bytes(4 << bits) if bits <= 8 else b""
    head = struct.pack(
        "<IiiHHIIiiII", 40, WIDTH, -HEIGHT if upside_down else HEIGHT, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0
    )
    between = struct.pack(f"<{len(masks)}I", *masks) + palette
    start = 14 + len(head) + len(between)
    body = np.random.default_rng(bits).bytes(stride * HEIGHT)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + between + body


BMPS: dict[str, bytes] = {
    **{f"{bits} bits": bmp(bits) for bits in (1, 4, 8, 16, 24, 32)},
    "5, 6 and 5 bits": bmp(16, masks=(0xF800, 0x7E0, 0x1F)),
    "masks of 32 bits": bmp(32, masks=(0xFF0000, 0xFF00, 0xFF)),
    "from top to bottom": bmp(24, upside_down=True),
}


def tiff(
    bits: int,
    samples: int,
    *,
    order: str = "<",
    planes: bool = False,
    tile: int = 0,
    rows: int = HEIGHT,
    big: bool = False,
) -> bytes:
    """An uncompressed TIFF of noise: in either byte order, by planes, strips or tiles, or as BigTIFF."""
    across, down = (tile, tile) if tile else (WIDTH, rows)
    number = -(-WIDTH // across) * -(-HEIGHT // down) * (samples if planes else 1)
    lengths = [(across * bits * (1 if planes else samples) + 7) // 8 * down] * number
    if not tile:
        lengths[-1] = lengths[0] // down * (HEIGHT - (-(-HEIGHT // down) - 1) * down)
    body = np.random.default_rng(bits + samples).bytes(sum(lengths))
    wide = "Q" if big else "I"
    start = 16 if big else 8
    offsets = [start + sum(lengths[:index]) for index in range(number)]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [bits] * samples), 259: (3, [1]),
        262: (3, [1 if samples < 3 else 2]), 277: (3, [samples]), 284: (3, [2 if planes else 1]),
    }  # fmt: skip
    if samples in (2, 4):
        tags[338] = (3, [2])
    named = {322: (4, [tile]), 323: (4, [tile]), 324: (4, offsets), 325: (4, lengths)}
    tags |= named if tile else {273: (4, offsets), 278: (4, [down]), 279: (4, lengths)}
    at = start + len(body)
    place = at + (8 if big else 2) + len(tags) * (20 if big else 12) + (8 if big else 4)
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        size = 8 if big else 4
        entries += struct.pack(order + "HH" + wide, tag, kind, len(numbers))
        entries += (
            content.ljust(size, b"\0") if len(content) <= size else struct.pack(order + wide, place + len(values))
        )
        values += content if len(content) > size else b""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, at) if big else struct.pack(order + "I", at)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return head + body + count + entries + struct.pack(order + wide, 0) + values


TIFFS: dict[str, bytes] = {
    f"{bits} bits × {samples}, {layout}{order}": tiff(bits, samples, order=order, **options)  # type: ignore[arg-type]
    for order in "<>"
    for bits, samples in ((1, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3), (8, 4), (16, 4))
    for layout, options in {
        "one strip": {}, "strips": {"rows": 7}, "tiles": {"tile": 16}, "planes": {"planes": True}, "big": {"big": True},
    }.items()
    if not (layout == "planes" and (samples == 1 or bits == 16)) and not (layout == "big" and order == ">")
}  # fmt: skip
"""Without planes of 16 bits and big-endian BigTIFFs, which Pillow does not read."""


# --- what costs no pixel


def in_png(more: bytes) -> Change:
    return lambda data: data[:33] + more + data[33:]


def without_checksum(kind: bytes) -> Change:
    def change(data: bytes) -> bytes:
        at = data.index(kind) + 4 + int.from_bytes(data[data.index(kind) - 4 : data.index(kind)])
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


_NOISE = np.random.default_rng(0).bytes(3 << 20)
ODDITIES: dict[str, dict[str, Change]] = {
    "PNG": {
        "3 MB of text": in_png(chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20))),
        "3 MB of packed text": in_png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20)))),
        "3 MB of international text": in_png(chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * (3 << 20))),
        "a colour profile of 3 MB": in_png(chunk(b"iCCP", b"profile\0\0" + zlib.compress(_NOISE, 1))),
        "an unknown chunk": in_png(chunk(b"prIv", b"unknown")),
        "a text with a bad checksum": in_png(chunk(b"tEXt", b"Comment\0text", checksum=1)),
        "data with a bad checksum": without_checksum(b"IDAT"),
        "an end with a bad checksum": without_checksum(b"IEND"),
        "no end": lambda data: data[:-12],
        "half an end": lambda data: data[:-7],
        "garbage for the end": lambda data: data[:-12] + b"garbage" * 9,
        "something behind it": lambda data: data + b"more" * 99,
    },
    "GIF": {
        "stray bytes before the frame": lambda data: data[: _frame(data)] + b"\0\0ab" + data[_frame(data) :],
        "a comment": lambda data: data[: _frame(data)] + b"!\xfe\3abc\0" + data[_frame(data) :],
        "no end": lambda data: data[:-1],
        "something behind it": lambda data: data + b"more" * 99,
    },
    "WEBP": {
        "an unknown chunk": lambda data: data + b"prIv\4\0\0\0abcd",
        "a wrong length of the file": lambda data: data[:4] + b"\xff\xff\xff\x7f" + data[8:],
        "something behind it": lambda data: data + b"more" * 99,
    },
    "TIFF": {"something behind it": lambda data: data + b"more" * 99},
    "BMP": {"something behind it": lambda data: data + b"more" * 99},
    "AVIF": {"something behind it": lambda data: data + b"\0\0\0\x10freemoremore"},
    "HEIF": {"something behind it": lambda data: data + b"\0\0\0\x10freemoremore"},
    "JPEG": {
        "no end": lambda data: data[:-2],
        "a damaged end": lambda data: data[:-2] + b"\xff\x07",
        "stray bytes": lambda data: data.replace(b"\xff\xdb", b"stray\xff\xdb", 1),
        "fill bytes": lambda data: data.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb", 1),
        "a bad colour profile": lambda data: data.replace(b"\xff\xdb", b"\xff\xe2\0\x10ICC_PROFILE\0\7\2\xff\xdb", 1),
        "something behind it": lambda data: data + b"more" * 99,
    },
}


def _frame(data: bytes) -> int:
    """Where the blocks of a GIF begin."""
    return 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)


# --- what does

DAMAGE: dict[str, Change] = {
    **{f"cut at {share} %": lambda data, share=share: data[: len(data) * share // 100] for share in (20, 50, 80)}  # type: ignore[misc]
}
