"""Payloads that are pictures: which types, which limits, decoded."""

from collections.abc import Mapping

from mien.services.inference import Item
from mien.services.items import payload_refused
from mien.services.sniff import IMAGES
from mien.settings import Settings
from mien.vision.picture import decode
from mien.vision.types import Picture

IMAGE_MIMES = tuple(IMAGES.values())


def decoded(item: Item, settings: Settings) -> Picture:
    """The payload's pixels. Raises InvalidField for what is declared, or looks like, no picture, and ImageError."""
    if not item.mime.startswith("image/"):
        raise payload_refused(f"expected a picture; got {item.mime}")
    return decode(item.data, max_pixels=settings.max_pixels, max_bytes=settings.max_image_bytes)


def picture_limits(settings: Settings) -> Mapping[str, str]:
    """The limits that tasks on pictures advertise."""
    return {
        "max_items": str(settings.max_images),
        "max_payload_bytes": str(settings.max_image_bytes),
        "max_pixels": str(settings.max_pixels),
    }
