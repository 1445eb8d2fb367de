"""Images to send: the test photos, and small and broken ones."""

import base64
import zlib
from pathlib import Path

PHOTOS = Path(__file__).parents[2] / "photos"
FACE = (PHOTOS / "person_a_1.jpg").read_bytes()
SAME = (PHOTOS / "person_a_2.jpg").read_bytes()
OTHER = (PHOTOS / "impostor_1.jpg").read_bytes()
TRUNCATED = FACE[: len(FACE) // 2]
TEXT = "a red fox in the snow ❄"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width: int, height: int, pixels: bool = True) -> bytes:
    """A black PNG; without `pixels` only its header is true."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = bytes(1 + 3 * width) * height if pixels else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


BLACK = png(64, 48)
HUGE = png(30000, 30000, pixels=False)


def b64(data: bytes) -> str:
    """As JSON carries bytes."""
    return base64.b64encode(data).decode()
