"""Looks for faces in one image file after the other: several at once, each on its own, in their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from mien.engine.cancellation import CancelScope
from mien.errors import InternalError, MienError
from mien.faces.pipeline import Face, FaceAnalysis
from mien.library.walk import Entry, ImageFile, Skipped, Unreadable

AHEAD = 2
"""Images per thread that are begun before the oldest one's result has been taken: what is held in memory."""


@dataclass(frozen=True, slots=True)
class FolderImage:
    """One image of a folder: its faces, or the error that kept it from being looked at."""

    path: Path
    faces: tuple[Face, ...] = ()
    width: int = 0
    """Pixels of the upright image."""
    height: int = 0
    error: MienError | None = None
    file: ImageFile | None = None
    """The file as it was when it was found; None for what cannot be read."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is."""

    path: Path
    """The image, or other entry, that was last dealt with."""
    images: int = 0
    """Looked at, those that failed included."""
    failed: int = 0
    faces: int = 0
    skipped: int = 0
    """Entries that are no images."""
    left_out: int = 0
    """Images that were not wanted."""

    def with_one(self, done: "FolderImage | Skipped | ImageFile") -> "Progress":
        """As of now: one more image, entry that is none, or file that was not wanted."""
        match done:
            case FolderImage():
                return replace(
                    self,
                    path=done.path,
                    images=self.images + 1,
                    failed=self.failed + (done.error is not None),
                    faces=self.faces + len(done.faces),
                )
            case Skipped():
                return replace(self, path=done.path, skipped=self.skipped + 1)
            case _:
                return replace(self, path=done.path, left_out=self.left_out + 1)


_Begun: TypeAlias = "Future[FolderImage] | Skipped | ImageFile"
"""An image that is looked at, an entry that is none, or a file that is not wanted."""


class Analyse(Protocol):
    """Finds the faces of an image file. Raises MienError."""

    def __call__(self, path: Path, scope: CancelScope, /) -> FaceAnalysis: ...


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom a search tells what it comes across, in the thread that takes its results."""

    wanted: Callable[[ImageFile], bool] = lambda _: True
    skipped: Callable[[Skipped], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None


def search(entries: Iterator[Entry], analyse: Analyse, threads: int, listener: Listener) -> Generator[FolderImage]:
    """The images among the entries, in their order. Closing the iterator ends what runs.

    Whatever goes wrong with an image is its result, never an exception.
    """
    scope = CancelScope()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mien-search")
    count = Progress(Path())
    try:
        begun = _begun(entries, lambda file: pool.submit(_looked_at, file, analyse, scope), listener.wanted)
        for found in _ahead(begun, AHEAD * threads):
            done = found if isinstance(found, Skipped | ImageFile) else found.result()
            count = count.with_one(done)
            listener.progress(count)
            if isinstance(done, Skipped):
                listener.skipped(done)
            elif isinstance(done, FolderImage):
                yield done
    finally:
        scope.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def _begun(
    entries: Iterator[Entry], begin: Callable[[ImageFile], "Future[FolderImage]"], wanted: Callable[[ImageFile], bool]
) -> Iterator[_Begun]:
    for entry in entries:
        if isinstance(entry, Unreadable):
            yield _finished(FolderImage(entry.path, error=entry.error))
        elif isinstance(entry, ImageFile) and wanted(entry):
            yield begin(entry)
        else:
            yield entry


def _ahead(items: Iterator[_Begun], most: int) -> Iterator[_Begun]:
    """The items, of which up to `most` are taken before they are passed on."""
    taken: deque[_Begun] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > most:
            yield taken.popleft()
    while taken:
        yield taken.popleft()


def _looked_at(file: ImageFile, analyse: Analyse, scope: CancelScope) -> FolderImage:
    try:
        found = analyse(file.path, scope)
    except MienError as error:
        return FolderImage(file.path, error=error.without_frames(), file=file)
    except Exception as error:  # noqa: BLE001 - a decoder's bug with one image must not end the search
        failure = InternalError(f"it could not be processed: {type(error).__name__}: {error}")
        return FolderImage(file.path, error=failure, file=file)
    return FolderImage(file.path, found.faces, found.width, found.height, file=file)


def _finished(image: FolderImage) -> "Future[FolderImage]":
    future: Future[FolderImage] = Future()
    future.set_result(image)
    return future
