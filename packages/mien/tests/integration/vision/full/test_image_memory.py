"""Decoding takes the memory that docs/security.md says, whatever the format."""

import subprocess
import sys

import pytest

MEASURE = """
import io, pathlib, sys
from PIL import Image
from mien.vision.image import decode
def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
file = io.BytesIO(); Image.new(MODE, (8, 8)).save(file, KIND, **OPTIONS)
decode(file.getvalue(), max_pixels=10**7, max_bytes=10**8)
file = io.BytesIO(); Image.new(MODE, (3000, 3000)).save(file, KIND, **OPTIONS)
data = file.getvalue(); del file
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
assert decode(data, max_pixels=10**7, max_bytes=10**8).shape == (3000, 3000, 3)
print((status("VmHWM") - before) / 9e6)
"""


@pytest.mark.parametrize(
    ("kind", "mode", "options", "most"),
    [
        ("PNG", "RGB", {}, 9),
        ("PNG", "RGBA", {}, 9),
        ("PNG", "LA", {}, 9),
        ("TIFF", "RGBA", {"compression": "tiff_lzw"}, 9),
        ("WEBP", "RGBA", {"lossless": True}, 12),
        ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}, 7),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 11),
        ("JPEG", "CMYK", {"progressive": True}, 13),
    ],
)
def test_decoding_takes_a_few_bytes_per_pixel(kind: str, mode: str, options: dict[str, object], most: float) -> None:
    code = MEASURE.replace("KIND", repr(kind)).replace("MODE", repr(mode)).replace("OPTIONS", repr(options))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < most
