"""Looking at many images: in order, a bounded number ahead, each failing alone."""

import threading
from collections.abc import Iterator
from pathlib import Path

from mien.engine.cancellation import CancelScope
from mien.errors import ImageTruncated, InternalError, SourceNotFound
from mien.faces.pipeline import FaceAnalysis
from mien.library.search import AHEAD, FolderImage, Listener, Progress, search
from mien.library.walk import Entry, ImageFile, Skipped, Unreadable

NOTHING = FaceAnalysis((), 10, 20, 1.0)


def files(count: int) -> list[ImageFile]:
    return [ImageFile(Path(f"{number}.jpg"), 1, 0) for number in range(count)]


def test_results_come_in_order_whichever_is_done_first() -> None:
    first_may_end = threading.Event()

    def analyse(path: Path, scope: CancelScope) -> FaceAnalysis:
        if path.name == "0.jpg":
            assert first_may_end.wait(60)
        if path.name == "3.jpg":
            first_may_end.set()
        return NOTHING

    done = list(search(iter(files(8)), analyse, 2, Listener()))
    assert [image.path.name for image in done] == [f"{number}.jpg" for number in range(8)]
    assert {(image.width, image.height, image.error) for image in done} == {(10, 20, None)}


def test_each_image_fails_alone() -> None:
    def analyse(path: Path, scope: CancelScope) -> FaceAnalysis:
        if path.name == "1.jpg":
            raise ImageTruncated("cut off")
        if path.name == "2.jpg":
            raise ZeroDivisionError("a decoder's bug")
        return NOTHING

    missing = Unreadable(Path("missing.jpg"), SourceNotFound("no such file"))
    done = list(search(iter([*files(4), missing]), analyse, 2, Listener()))
    kinds = [type(image.error) for image in done]
    assert kinds == [type(None), ImageTruncated, InternalError, type(None), SourceNotFound]
    assert "ZeroDivisionError: a decoder's bug" in str(done[2].error)


def test_only_so_many_images_are_begun_ahead() -> None:
    walked: list[Entry] = []

    def entries() -> Iterator[Entry]:
        for file in files(1000):
            walked.append(file)
            yield file

    found = search(entries(), lambda _, __: NOTHING, 2, Listener())
    next(found)
    assert len(walked) == AHEAD * 2 + 1
    found.close()


def test_an_iterator_that_is_closed_ends_what_runs() -> None:
    begun, ended = threading.Event(), threading.Event()

    def analyse(path: Path, scope: CancelScope) -> FaceAnalysis:
        if path.name == "0.jpg":
            return NOTHING
        cancelled = threading.Event()
        scope.subscribe(cancelled.set)
        begun.set()
        assert cancelled.wait(60)
        ended.set()
        return NOTHING

    found = search(iter(files(100)), analyse, 1, Listener())
    next(found)
    assert begun.wait(60)
    found.close()
    assert ended.is_set()


def test_what_is_no_image_or_not_wanted_is_told_and_counted() -> None:
    skipped: list[Skipped] = []
    counts: list[Progress] = []
    pipe = Skipped(Path("fifo.jpg"), "a named pipe")
    listener = Listener(lambda file: file.path.name != "1.jpg", skipped.append, counts.append)
    done: list[FolderImage] = list(search(iter([*files(3), pipe]), lambda _, __: NOTHING, 1, listener))
    assert [image.path.name for image in done] == ["0.jpg", "2.jpg"]
    assert skipped == [pipe]
    assert counts[-1] == Progress(Path("fifo.jpg"), images=2, skipped=1, left_out=1)
    assert len(counts) == 4
