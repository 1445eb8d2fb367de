"""`extract_many` without its I/O: groups images into batches, and maps results back to images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ifr_clients._responses import complete, failed_image
from ifr_clients.errors import IFRRejected, IFRResponseInvalid
from ifr_clients.schemas import ImageResponse

LEAST_DEFAULT_BATCH = 16  # images: smaller batches make the overhead per request noticeable
DEFAULT_BATCH_BYTES = 32 * 1024 * 1024
BASE64_ROOM = 0.7  # fraction of a body that may be images: base64 turns 3 bytes into 4


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one request."""

    images: int
    size: float = DEFAULT_BATCH_BYTES
    """Bytes of all its images together. A single image above that is sent alone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The images of one request, and the errors of those that could not be read."""

    images: list[str | bytes]
    unreadable: Mapping[int, str]
    """Position in the batch → reason."""

    def __len__(self) -> int:
        return len(self.images) + len(self.unreadable)

    def results(self, response: dict[str, Any]) -> list[dict[str, Any]]:
        """One result per image of the batch, in order. Raises IFRResponseInvalid if the response has too many."""
        data = complete(response, len(self.images))["data"]
        if len(data) > len(self.images):
            raise IFRResponseInvalid(f"the response has {len(data)} images; {len(self.images)} were sent")
        answered = iter(data)
        return [
            failed_image(self.unreadable[place]) if place in self.unreadable else next(answered)
            for place in range(len(self))
        ]

    def stand_in(self, error: IFRRejected) -> dict[str, Any]:
        """A response that replaces a 413 for the only image of this batch. Raises any other error."""
        if error.status == 413 and len(self.images) == 1:
            return {"data": [failed_image(error.message)]}
        raise error


class Batcher:
    """Groups images into batches."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._images: list[str | bytes] = []
        self._unreadable: dict[int, str] = {}
        self._size = 0

    def add(self, image: str | bytes | OSError) -> Batch | None:
        """Add an image, or the error of reading it; returns the batch that this completes."""
        if isinstance(image, OSError):
            self._unreadable[self._count] = str(image)
            return self._flush_if_full()
        size = len(image)
        full = self.flush() if self._images and self._size + size > self._limits.size else None
        self._images.append(image)
        self._size += size
        return full or self._flush_if_full()

    def flush(self) -> Batch | None:
        """The images since the last batch; None if there are none."""
        if not self._count:
            return None
        batch = Batch(self._images, self._unreadable)
        self._images, self._unreadable, self._size = [], {}, 0
        return batch

    @property
    def _count(self) -> int:
        return len(self._images) + len(self._unreadable)

    def _flush_if_full(self) -> Batch | None:
        return self.flush() if self._count >= self._limits.images else None


def limits_of(info: Mapping[str, Any]) -> BatchLimits:
    """The server's batch size, at least 16, within its limits if it reports them."""
    models, limits = _map(info, "models"), _map(info, "limits")
    batch = max(LEAST_DEFAULT_BATCH, _count(models, "det_batch_size", 1), _count(models, "rec_batch_size", 1))
    images = min(batch, _count(limits, "max_images", batch))
    body = _count(limits, "max_body_bytes", 0)
    return BatchLimits(images, min(DEFAULT_BATCH_BYTES, body * BASE64_ROOM) if body else DEFAULT_BATCH_BYTES)


def _map(info: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = info.get(key)
    return value if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], key: str, default: int) -> int:
    value = values.get(key)
    return value if isinstance(value, int) and value > 0 else default


def model_of(result: dict[str, Any]) -> ImageResponse:
    """The result of one image as a model. Raises IFRResponseInvalid."""
    try:
        return ImageResponse.model_validate(result)
    except ValidationError as error:
        raise IFRResponseInvalid(f"the response is not a valid ImageResponse: {error}") from error


def check_arguments(batch_size: int | None, concurrency: int, mode: str) -> None:
    """Raises ValueError, which names the invalid argument."""
    if mode not in ("paths", "data"):
        raise ValueError(f"mode is {mode!r}; expected 'paths' or 'data'")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more, or None for the server's")
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; expected 1 or more")
