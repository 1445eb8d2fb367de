"""`extract_many` without its I/O: groups images into batches, and maps results back to images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from ifr_clients._images import check_collection
from ifr_clients._responses import complete, failed_image
from ifr_clients.errors import IFRRejected, IFRResponseInvalid, Stopped
from ifr_clients.schemas import ImageResponse

Result: TypeAlias = dict[str, Any]
"""Of one image, as the server has it."""
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
    """The images of one request, and the results of those between them that need none."""

    first: int
    """Position of its first image in the collection."""
    images: list[str | bytes]
    known: Mapping[int, Result] = field(default_factory=dict)
    """Position in the batch → result."""
    name: str = ""
    """How its first image is called."""
    broken: Exception | None = None
    """What the collection raised in place of an image: the batch has none."""

    def __len__(self) -> int:
        return len(self.images) + len(self.known)

    def finished(self, answers: Sequence[Result | IFRRejected]) -> "Finished":
        """One result per image of the batch, in order. `answers`: of `images`.

        Raises the rejection if the server failed at each of several images: that is no image's fault.
        """
        rejected = [answer for answer in answers if isinstance(answer, IFRRejected)]
        if len(rejected) == len(answers) > 1 and rejected[0].status == 500:
            raise rejected[0]
        answered = iter(answers)
        places = [self.known[place] if place in self.known else next(answered) for place in range(len(self))]
        return Finished(self.first, [found if isinstance(found, dict) else _rejected_image(found) for found in places])

    def note(self, error: Exception) -> None:
        """Add to an error of this batch which images it concerns."""
        last = self.first + len(self) - 1
        which = f"image {self.first}" if last == self.first else f"images {self.first} to {last}, from"
        error.add_note(f"extract_many stopped at {which} {self.name}")


@dataclass(frozen=True, slots=True)
class Finished:
    """The results of a batch."""

    first: int
    """Position of its first image in the collection."""
    results: list[Result]


class Batcher:
    """Groups images into batches."""

    def __init__(self, limits: BatchLimits, first: int = 0) -> None:
        """`first`: position of the first image in the collection."""
        self._limits = limits
        self._begin(first)

    def add(self, image: str | bytes, name: str = "") -> Batch | None:
        """Add an image; returns the batch that this completes."""
        size = len(image)
        full = self.flush() if self._images and self._size + size > self._limits.size else None
        self._named(name)
        self._images.append(image)
        self._size += size
        return full or self._flush_if_full()

    def add_known(self, result: Result, name: str = "") -> Batch | None:
        """Add the result of an image that needs no request; returns the batch that this completes."""
        self._named(name)
        self._known[self._count] = result
        return self._flush_if_full()

    def flush(self) -> Batch | None:
        """The images since the last batch; None if there are none."""
        if not self._count:
            return None
        batch = Batch(self._first, self._images, self._known, self._name)
        self._begin(self._first + len(batch))
        return batch

    @property
    def _count(self) -> int:
        return len(self._images) + len(self._known)

    def _begin(self, first: int) -> None:
        self._first, self._name, self._size = first, "", 0
        self._images: list[str | bytes] = []
        self._known: dict[int, Result] = {}

    def _named(self, name: str) -> None:
        self._name = self._name if self._count else name

    def _flush_if_full(self) -> Batch | None:
        return self.flush() if self._count >= self._limits.images else None


def _rejected_image(error: IFRRejected) -> Result:
    """Its message says all if the server has checked the image; if it has failed, the status says more."""
    return failed_image(error.message if error.status == 413 else str(error))


def concerns_one_image(error: IFRRejected) -> bool:
    """Whether a request may succeed without one of its images: it is too large, or the server cannot process it."""
    return error.status in (413, 500)


def answers_of(response: dict[str, Any], sent: int) -> list[Result]:
    """The results in a response; fewer than were `sent` if an original server has stopped at a crop of a wrong size,
    whose result is then the last. Raises IFRResponseInvalid if there are too many."""
    data: list[Result] = response["data"]
    received = len(data)
    if received > sent:
        raise IFRResponseInvalid(f"the response has {received} images; {sent} were sent")
    data = complete(response, sent)["data"]
    return data[: received + 1]


def stopped_at(position: int, begin: Stopped, finished: Iterable[Finished]) -> Stopped:
    """Where `extract_many` stops, with the results beyond that which it has already, or had when it began."""
    arrived = {part.first + place: result for part in finished for place, result in enumerate(part.results)}
    known = begin.results | arrived
    return Stopped(position, {place: known[place] for place in sorted(known) if place >= position})


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


def as_asked(result: Result, *, model: bool) -> Result | ImageResponse:
    """The result as it is, or as a model. Raises IFRResponseInvalid."""
    if not model:
        return result
    try:
        return ImageResponse.model_validate(result)
    except ValidationError as error:
        raise IFRResponseInvalid(f"the response is not a valid ImageResponse: {error}") from error


def check_arguments(
    data: Any, batch_size: int | None, concurrency: int, mode: str, start: int | Stopped | None, *, asynchronous: bool
) -> Stopped:
    """Where to begin. Raises ValueError or TypeError, which name the invalid argument."""
    check_collection(data, asynchronous=asynchronous)
    if mode not in ("paths", "data"):
        raise ValueError(f"mode is {mode!r}; expected 'paths' or 'data'")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more, or None for the server's")
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; expected 1 or more")
    begin = start if isinstance(start, Stopped) else Stopped(start or 0)
    if begin.index < 0:
        raise ValueError(f"start is {begin.index}; expected 0 or more, or the `stopped` of an error")
    return begin
