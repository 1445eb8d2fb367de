"""Payloads that are images: which types, which limits, decoded."""

from collections.abc import Mapping

from mien.inference.contract import Item
from mien.inference.items import payload_refused
from mien.inference.sniff import IMAGES
from mien.settings import Limits
from mien.vision.image import decode
from mien.vision.types import Image

IMAGE_MIMES = tuple(IMAGES.values())


def decoded(item: Item, limits: Limits) -> Image:
    """The payload's pixels. Raises InvalidField for what is declared, or looks like, no image, and ImageError."""
    if not item.mime.startswith("image/"):
        raise payload_refused(f"expected an image; got {item.mime}")
    return decode(item.data, max_pixels=limits.max_pixels, max_bytes=limits.max_image_bytes)


def image_limits(limits: Limits) -> Mapping[str, str]:
    """The limits that tasks on images advertise."""
    return {
        "max_items": str(limits.max_images),
        "max_payload_bytes": str(limits.max_image_bytes),
        "max_pixels": str(limits.max_pixels),
    }
