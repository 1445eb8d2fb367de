"""Searching folders: every image is found, everything else is named, and nothing stops the search."""

import os
import socket
from pathlib import Path

import pytest

from mien.errors import SourceFailed, SourceNotFound
from mien.library.walk import ImageFile, Skipped, Unreadable, walk
from mien.vision.image_format import SUFFIXES


def names(entries: list[ImageFile | Skipped | Unreadable], kind: type, below: Path) -> list[str]:
    return [str(entry.path.relative_to(below)) for entry in entries if isinstance(entry, kind)]


def found(path: Path) -> list[str]:
    return names(list(walk([path])), ImageFile, path)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what lies beside images, with a good one before, between and after."""
    for name in ("a.jpg", "m.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(b"image")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
    for name in ("._a.jpg", ".hidden.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"no image")
    for folder in ("@eaDir", ".thumbnails", "folder.jpg", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inside.jpg").write_bytes(b"image")
    (tmp_path / "album").symlink_to(tmp_path / "folder.jpg")
    return tmp_path


def test_images_among_odd_entries_are_all_found(odd: Path) -> None:
    assert found(odd) == ["a.jpg", "folder.jpg/inside.jpg", "m.jpg", "z.jpg"]


def test_odd_entries_are_named_with_the_reason(odd: Path) -> None:
    skipped = {entry.path.name: entry.reason for entry in walk([odd]) if isinstance(entry, Skipped)}
    assert skipped == {
        "._a.jpg": "metadata of macOS",
        ".DS_Store": "metadata of macOS",
        ".hidden.jpg": "a hidden file",
        ".thumbnails": "a hidden folder",
        "@eaDir": "thumbnails of a Synology NAS",
        "Thumbs.db": "thumbnails of Windows",
        "__MACOSX": "metadata of macOS",
        "album": "a link to a folder; name it to have it searched",
        "dangling.jpg": "a link to a file that does not exist",
        "device.png": "a device",
        "fifo.jpg": "a named pipe",
        "folder.jpg": "a folder that is called like an image; it is searched",
        "loop.jpg": "a link that leads back to itself",
        "socket.jpg": "a socket",
    }


def test_what_is_named_itself_counts_whatever_its_name(odd: Path) -> None:
    given = [odd / "notes.txt", odd / ".hidden.jpg", odd / "album", odd / "fifo.jpg", odd / "missing.jpg"]
    entries = list(walk(given))
    assert names(entries, ImageFile, odd) == ["notes.txt", ".hidden.jpg", "album/inside.jpg"]
    assert names(entries, Skipped, odd) == ["fifo.jpg"]
    (missing,) = (entry for entry in entries if isinstance(entry, Unreadable))
    assert isinstance(missing.error, SourceNotFound)


def test_every_ending_of_an_image_is_known_in_any_case(tmp_path: Path) -> None:
    for number, suffix in enumerate(SUFFIXES):
        (tmp_path / f"{number:02}{suffix.upper() if number % 2 else suffix}").touch()
    assert len(found(tmp_path)) == len(SUFFIXES)
    assert {".jfif", ".jpe", ".hif", ".heic", ".avif"} <= set(SUFFIXES)


def test_names_that_are_not_utf_8_are_found(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))).touch()
    (entry,) = walk([tmp_path])
    assert os.fsencode(entry.path).endswith(b"/caf\xe9.jpg")


def test_a_closed_folder_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
    scandir = os.scandir

    def closed(path: Path) -> object:  # as root may read every folder
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    entries = list(walk([tmp_path]))
    assert names(entries, ImageFile, tmp_path) == ["a/x.jpg", "c/x.jpg"]
    (unreadable,) = (entry for entry in entries if isinstance(entry, Unreadable))
    assert isinstance(unreadable.error, SourceFailed)
    assert "Permission denied" in str(unreadable.error)


def test_folders_are_entered_in_the_order_of_their_names_and_only_then(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.jpg", "a.jpg", "c/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entries = walk([tmp_path])
    assert [next(entries).path.name for _ in range(2)] == ["a.jpg", "1.jpg"]
    (tmp_path / "c" / "4.jpg").touch()
    assert [entry.path.name for entry in entries] == ["2.jpg", "3.jpg", "4.jpg"]


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1200):  # paths have 4,096 bytes at most
        deep /= "d"
        deep.mkdir()
    image = deep / "x.jpg"
    image.touch()
    try:
        assert len(found(tmp_path)) == 1
    finally:  # pytest's own cleaning up would be nested too deep
        image.unlink()
        for folder in [deep, *deep.parents][: len(deep.parts) - len(tmp_path.parts)]:
            folder.rmdir()
