"""Admission control: bounds the images and bytes in the server; requests beyond that are told when to retry."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mien.errors import Overloaded, Unavailable
from mien.settings import Limits

SMOOTHING = 0.1  # weight of the newest measurement in the moving average
FIRST_GUESS = 0.1  # seconds per image until there is a measurement


class Admission:
    """Counts admitted images and bytes. Used from the event loop only, so it needs no lock."""

    def __init__(self, *, max_images: int, max_bytes: int) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self.images = 0
        self.bytes = 0
        self._seconds_per_image = FIRST_GUESS
        self._finished: float | None = None
        self._draining = False

    @classmethod
    def from_settings(cls, limits: Limits) -> "Admission":
        return cls(max_images=limits.queue_images, max_bytes=limits.queue_bytes)

    @property
    def idle(self) -> bool:
        return self.images == 0 and self.bytes == 0

    def drain(self) -> None:
        """Reject all new requests from now on."""
        self._draining = True

    def retry_after(self) -> float:
        """Estimated seconds until the queue is empty, at least 1: admitted images × measured seconds per image."""
        return float(max(1, math.ceil(self.images * self._seconds_per_image)))

    @contextmanager
    def body(self, size: int, *, refuse: bool = True) -> Iterator[None]:
        """Reserve `size` bytes for a request body before it is read. Raises Overloaded, Unavailable."""
        self._refuse_while_draining()
        self.reserve(size, refuse=refuse)
        try:
            yield
        finally:
            self.release(size)

    def reserve(self, size: int, *, refuse: bool = True) -> None:
        """Count `size` bytes of a request until `release`, also while draining: it belongs to one that was admitted.

        Raises Overloaded.
        """
        if refuse and self.bytes and self.bytes + size > self._max_bytes:
            raise Overloaded(
                f"{self.bytes} bytes of requests are in progress; {size} more would exceed the limit",
                retry_after=self.retry_after(),
            )
        self.bytes += size

    def release(self, size: int) -> None:
        """These bytes are no longer held."""
        self.bytes -= size

    @contextmanager
    def work(self, images: int) -> Iterator[Callable[[], None]]:
        """Admit a request with `images` images. Raises Overloaded, Unavailable.

        Yields a function to call when an image is done, which frees its slot before the request ends. An empty server
        admits a request of any size; the limit on images per request bounds that.
        """
        self._refuse_while_draining()
        if self.images and self.images + images > self._max_images:
            raise Overloaded(
                f"{self.images} images are queued or running; {images} more would exceed the limit of "
                f"{self._max_images}",
                retry_after=self.retry_after(),
            )
        if self.images == 0:
            self._finished = None
        self.images += images
        left = images

        def finished() -> None:
            nonlocal left
            left -= 1
            self.images -= 1
            self._measure()

        try:
            yield finished
        finally:
            self.images -= left

    def _measure(self) -> None:
        """Under load, the interval between finished images is the service time per image."""
        now = time.monotonic()
        if self._finished is not None:
            self._seconds_per_image += SMOOTHING * (now - self._finished - self._seconds_per_image)
        self._finished = now

    def _refuse_while_draining(self) -> None:
        if self._draining:
            raise Unavailable("the server is shutting down", retry_after=self.retry_after())
