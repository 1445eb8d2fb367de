import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mien.workers.files import OutputFile, OutputFiles
from mien.workers.listener import AppError

MARKER = "$file:5f0c"


def marked(path: Path, **more: Any) -> dict[str, Any]:
    return {MARKER: {"path": str(path), "size": 1, **more}}


async def never(file: OutputFile) -> str:
    raise AssertionError(f"{file} was stored")


@pytest.fixture
def files(tmp_path: Path) -> OutputFiles:
    """The files of a worker whose directory is inside the server's data directory."""
    data = tmp_path / "data"
    for folder in ("workers/w1/app", "workers/w2", "secrets"):
        (data / folder).mkdir(parents=True)
    return OutputFiles(MARKER, data, (data / "workers" / "w1",), (tmp_path,))


async def test_files_of_an_output_are_stored_once_and_replaced(files: OutputFiles, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    stored: list[OutputFile] = []

    async def store(file: OutputFile) -> str:
        stored.append(file)
        return f"inf://{file.path.name}"

    a, b = marked(tmp_path / "a.txt", content_type="text/plain"), marked(tmp_path / "b.txt", filename="c.txt")
    output = await files.replaced({"one": a, "many": [b, {"again": a}], "text": MARKER}, store)
    assert output == {"one": "inf://a.txt", "many": ["inf://b.txt", {"again": "inf://a.txt"}], "text": MARKER}
    assert [(file.content_type, file.filename) for file in stored] == [("text/plain", None), (None, "c.txt")]


async def test_a_missing_output_file_is_the_apps_error(files: OutputFiles, tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"gone\.txt") as caught:
        await files.replaced(marked(tmp_path / "gone.txt"), never)
    assert caught.value.kind == "output"


def test_outputs_without_files_are_known(files: OutputFiles) -> None:
    assert files.any_in([{"a": {MARKER: {}}}])
    assert not files.any_in({"a": [MARKER, 1, None]})


@pytest.mark.parametrize("name", ["$file", "$file:", "$file:5f0d", "$file:5F0C", "file"])
async def test_a_marker_that_is_not_this_workers_is_data(files: OutputFiles, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    echoed = {"a": {name: {"path": str(tmp_path / "a.txt")}}}
    assert not files.any_in(echoed)
    assert await files.replaced(echoed, never) == echoed


@pytest.mark.parametrize("name", [
    "keys.json", "secrets/webhooks.key", "workers/w2/other", "workers/w1/app/link", "workers/w1/../../keys.json",
])  # fmt: skip
async def test_files_of_the_server_are_not_outputs(files: OutputFiles, name: str) -> None:
    path = files.closed / name
    if name.endswith("link"):
        (files.closed / "keys.json").write_text("[]")
        path.symlink_to(files.closed / "keys.json")
    else:
        path.write_text("secret")
    with pytest.raises(AppError, match=r"belongs to the server|is a link"):
        await files.replaced(marked(path), never)


async def test_files_in_the_workers_own_directory_are_outputs(files: OutputFiles) -> None:
    async def store(file: OutputFile) -> str:
        return file.path.read_text()

    made = files.closed / "workers" / "w1" / "app" / "made.txt"
    made.write_text("mine")
    assert await files.replaced(marked(made), store) == "mine"


async def test_what_is_stored_is_the_file_that_was_opened(files: OutputFiles, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine")

    async def store(file: OutputFile) -> str:
        path.rename(tmp_path / "b.txt")
        path.symlink_to("/etc/passwd")
        return file.content.read().decode()

    assert await files.replaced(marked(path), store) == "mine"


@pytest.mark.parametrize("top", ["", "data/workers/w1/app"])
@pytest.mark.parametrize("kind", ["link", "dangling", "directory link", "pipe", "socket", "directory", "device link"])
async def test_only_regular_files_are_opened_and_no_links_followed(
    files: OutputFiles, tmp_path: Path, top: str, kind: str
) -> None:
    folder = tmp_path / top
    path = folder / "made"
    (folder / "real").mkdir()
    (folder / "real" / "file").write_text("x")
    listener = socket.socket(socket.AF_UNIX)
    match kind:
        case "link":
            path.symlink_to(folder / "real" / "file")
        case "dangling":
            path.symlink_to("/nowhere/at/all")
        case "directory link":
            path.symlink_to(folder / "real")
            path = path / "file"
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with contextlib.chdir(folder):
                listener.bind("made")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")
    with listener, pytest.raises(AppError, match=r"made|file") as caught:
        await files.replaced(marked(path), never)
    assert caught.value.kind == "output"
    assert str(tmp_path) not in caught.value.message


async def test_a_second_name_of_a_file_elsewhere_is_no_output(files: OutputFiles, tmp_path: Path) -> None:
    (files.closed / "keys.json").write_text("secret")
    (tmp_path / "a.json").hardlink_to(files.closed / "keys.json")
    with pytest.raises(AppError, match="hard links"):
        await files.replaced(marked(tmp_path / "a.json"), never)


@pytest.mark.parametrize("path", ["/etc/hostname", "/proc/self/environ", "/dev/zero", "/", ".", "", "a.txt", "\0"])
async def test_files_elsewhere_are_no_outputs(files: OutputFiles, path: str) -> None:
    with pytest.raises(AppError):
        await files.replaced({MARKER: {"path": path}}, never)


async def test_a_temporary_directory_that_is_a_link_itself_is_known_by_both_names(
    files: OutputFiles, tmp_path: Path
) -> None:
    async def store(file: OutputFile) -> str:
        return file.content.read().decode()

    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "tmp").symlink_to(tmp_path / "real")
    linked = replace(files, shared=(tmp_path / "tmp",))
    for name in ("tmp/a.txt", "real/a.txt", "tmp/../tmp/a.txt"):
        assert await linked.replaced(marked(tmp_path / name), store) == "a"
