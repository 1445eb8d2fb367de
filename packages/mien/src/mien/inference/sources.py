"""Where an image's bytes come from: the request itself, a URL, or a path under the images root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mien.engine.call import Call
from mien.engine.pool import WorkerPool
from mien.net.fetch import Fetcher
from mien.net.paths import read_under
from mien.vision.base64 import decode_base64


@dataclass(frozen=True, slots=True)
class RawBytes:
    """An encoded image."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Base64:
    """An encoded image in base64, with or without a `data:` prefix."""

    text: str


@dataclass(frozen=True, slots=True)
class Remote:
    """A URL, or a path under the images root."""

    location: str
    headers: Mapping[str, str] = field(default_factory=dict)


Source: TypeAlias = RawBytes | Base64 | Remote


class SourceReader:
    """Reads sources of at most `max_bytes`; paths only under `images_root`."""

    def __init__(self, fetcher: Fetcher, *, images_root: Path | None, max_bytes: int) -> None:
        self._root = images_root
        self._max_bytes = max_bytes
        self._fetcher = fetcher

    async def read(self, source: Source, pool: WorkerPool, call: Call) -> bytes | memoryview:
        """The encoded image. Raises ImageError subclasses that say why it cannot be had."""
        match source:
            case RawBytes(data):
                return data
            case Base64(text):
                return await pool.run(call, decode_base64, text, max_bytes=self._max_bytes)
            case Remote(location, headers) if location.lower().startswith(("http://", "https://")):
                async with call.bounding():
                    return await self._fetcher.fetch(location, headers)
            case Remote(location):
                return await pool.run(call, read_under, self._root, location, self._max_bytes)
