"""Where an item's bytes come from: the request itself, raw or in base64; a URL; a path below the images root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mien.base64 import decode_base64
from mien.engine.cancellation import CancelScope
from mien.net.paths import read_under

if TYPE_CHECKING:  # the HTTP client is a sixth of what a program without a server would import
    from mien.net.fetch import Fetcher

ANY_IMAGE = "image/*"


@dataclass(frozen=True, slots=True)
class Item:
    """One payload: an image, a text, or whatever else a service accepts."""

    data: bytes
    mime: str = ANY_IMAGE
    """Media type without parameters, sniffed or declared, e.g. `image/jpeg`, `text/plain`."""


@dataclass(frozen=True, slots=True)
class Base64:
    """An encoded image in base64, with or without a `data:` prefix."""

    text: str | memoryview
    """Characters, or their bytes."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An image at a URL, or at a path below the images root."""

    location: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_url(self) -> bool:
        return self.location.lower().startswith(("http://", "https://"))


Source: TypeAlias = Item | Base64 | Remote


def is_image(source: Source) -> bool:
    """Whether the source is, or claims to be, an image."""
    return not isinstance(source, Item) or source.mime.startswith("image/")


class SourceReader:
    """Reads the bytes of sources, within limits."""

    def __init__(self, fetcher: "Fetcher", *, images_root: Path | None, max_bytes: int) -> None:
        """`images_root`: None rejects all paths. `max_bytes`: of one image."""
        self._fetcher = fetcher
        self._root = images_root
        self._max_bytes = max_bytes

    async def fetch(self, source: Source, scope: CancelScope) -> Source:
        """Fetch a URL into an item; other sources are returned unchanged.

        Raises subclasses of ImageError if it cannot be fetched, DeadlineExceeded, Cancelled.
        """
        if not (isinstance(source, Remote) and source.is_url):
            return source
        async with scope.bounding():
            return Item(await self._fetcher.fetch(source.location, source.headers))

    def load(self, source: Source) -> Item:
        """The bytes of a source returned by `fetch`. Blocks; raises subclasses of ImageError."""
        match source:
            case Item():
                return source
            case Base64(text):
                return Item(decode_base64(text, max_bytes=self._max_bytes))
            case Remote(location):
                return Item(read_under(self._root, location, self._max_bytes))
