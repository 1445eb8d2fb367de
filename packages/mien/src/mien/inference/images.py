"""Image payloads: accepted types, limits, decoding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from mien.engine.sources import Item
from mien.errors import InvalidField
from mien.inference.sniff import IMAGES
from mien.settings import Limits
from mien.vision.formats.still import most_pixels_of_any
from mien.vision.photo import Photo
from mien.vision.types import Image

IMAGE_MIMES = tuple(IMAGES.values())


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The limits of this server."""

    max_items: int
    """Images, or other payloads, per request."""
    max_bytes: int
    """Per encoded image."""
    max_pixels: int | None
    """Per image; None: by format."""

    @classmethod
    def from_settings(cls, limits: Limits) -> Self:
        """The limits that the settings give."""
        return cls(max_items=limits.max_images, max_bytes=limits.max_image_bytes, max_pixels=limits.max_pixels)

    def decode(self, item: Item) -> Image:
        """The item's pixels. Raises InvalidField if its media type is not an image, else as `vision.image.decode`."""
        return self.open(item).pixels()

    def open(self, item: Item) -> Photo:
        """The item as a photo, of which nothing has been decoded. Raises as `decode`."""
        if not item.mime.startswith("image/"):
            raise payload_refused(f"expected an image; got {item.mime}")
        return Photo.open(item.data, max_pixels=self.max_pixels, max_bytes=self.max_bytes)

    def advertised(self) -> Mapping[str, str]:
        """The limits as image tasks advertise them."""
        return {
            "max_items": str(self.max_items),
            "max_payload_bytes": str(self.max_bytes),
            "max_pixels": str(most_pixels_of_any(self.max_pixels)),
        }


def payload_refused(reason: str) -> InvalidField:
    """The error for a payload of the wrong kind."""
    message = f"payload: {reason}"
    return InvalidField(message, ({"type": "payload", "loc": ["payload"], "msg": message},))
