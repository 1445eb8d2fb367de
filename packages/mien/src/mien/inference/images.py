"""Payloads that are images: which types, which limits, decoded."""

from collections.abc import Mapping

from mien.inference.contract import Item
from mien.inference.items import payload_refused
from mien.inference.sniff import IMAGES
from mien.settings import Settings
from mien.vision.image import decode
from mien.vision.types import Image

IMAGE_MIMES = tuple(IMAGES.values())


def decoded(item: Item, settings: Settings) -> Image:
    """The payload's pixels. Raises InvalidField for what is declared, or looks like, no image, and ImageError."""
    if not item.mime.startswith("image/"):
        raise payload_refused(f"expected an image; got {item.mime}")
    return decode(item.data, max_pixels=settings.max_pixels, max_bytes=settings.max_image_bytes)


def image_limits(settings: Settings) -> Mapping[str, str]:
    """The limits that tasks on images advertise."""
    return {
        "max_items": str(settings.max_images),
        "max_payload_bytes": str(settings.max_image_bytes),
        "max_pixels": str(settings.max_pixels),
    }
