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
    return OutputFiles(MARKER, data, (data / "workers" / "w1",))


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
    with pytest.raises(AppError, match="belongs to the server"):
        await files.replaced(marked(path), never)


async def test_files_in_the_workers_own_directory_are_outputs(files: OutputFiles) -> None:
    async def store(file: OutputFile) -> str:
        return file.path.read_text()

    made = files.closed / "workers" / "w1" / "app" / "made.txt"
    made.write_text("mine")
    assert await files.replaced(marked(made), store) == "mine"
