"""Admission: a bounded number of images and bytes in the server; the rest is told when to come back."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mien.errors import Overloaded, Unavailable
from mien.settings import Limits

SMOOTHING = 0.1  # weight of the newest measurement in the moving average
FIRST_GUESS = 0.1  # seconds per image until one was measured


class Admission:
    """Counts what is inside. Used from the event loop only, so it needs no lock."""

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
        """Refuse everything new from now on."""
        self._draining = True

    def retry_after(self) -> float:
        """Seconds until the queue has likely emptied: images inside × measured seconds per finished image."""
        return float(max(1, math.ceil(self.images * self._seconds_per_image)))

    @contextmanager
    def body(self, size: int) -> Iterator[None]:
        """Hold room for `size` bytes of request body, before they are read. Raises Overloaded, Unavailable."""
        self._refuse_while_draining()
        if self.bytes and self.bytes + size > self._max_bytes:
            raise Overloaded(
                f"{self.bytes} bytes of requests are being worked on; {size} more are over the limit",
                retry_after=self.retry_after(),
            )
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size

    @contextmanager
    def work(self, images: int) -> Iterator[Callable[[], None]]:
        """Hold room for a request of `images`. Raises Overloaded, Unavailable.

        Yields a function to be called as each image is done, which frees its place early. A request is let into an
        empty server whatever its size: the limit on images per request bounds that.
        """
        self._refuse_while_draining()
        if self.images and self.images + images > self._max_images:
            raise Overloaded(
                f"{self.images} images are queued or running; {images} more are over the limit of {self._max_images}",
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
        """The spacing of finished images under load is the service time."""
        now = time.monotonic()
        if self._finished is not None:
            self._seconds_per_image += SMOOTHING * (now - self._finished - self._seconds_per_image)
        self._finished = now

    def _refuse_while_draining(self) -> None:
        if self._draining:
            raise Unavailable("the server is shutting down", retry_after=self.retry_after())
