from pathlib import Path
from typing import Any

import pytest

from mien.workers.files import OutputFile, has_files, replace_files
from mien.workers.listener import AppError


def marked(path: Path, **more: Any) -> dict[str, Any]:
    return {"$file": {"path": str(path), "size": 1, **more}}


async def test_files_of_an_output_are_stored_once_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    stored: list[OutputFile] = []

    async def store(file: OutputFile) -> str:
        stored.append(file)
        return f"inf://{file.path.name}"

    a, b = marked(tmp_path / "a.txt", content_type="text/plain"), marked(tmp_path / "b.txt", filename="c.txt")
    output = await replace_files({"one": a, "many": [b, {"again": a}], "text": "$file"}, store)
    assert output == {"one": "inf://a.txt", "many": ["inf://b.txt", {"again": "inf://a.txt"}], "text": "$file"}
    assert [(file.content_type, file.filename) for file in stored] == [("text/plain", None), (None, "c.txt")]


async def test_a_file_that_is_gone_is_the_apps_error(tmp_path: Path) -> None:
    async def store(file: OutputFile) -> str:
        raise AssertionError

    with pytest.raises(AppError, match=r"gone\.txt") as caught:
        await replace_files(marked(tmp_path / "gone.txt"), store)
    assert caught.value.kind == "output"


def test_outputs_without_files_are_known() -> None:
    assert has_files([{"a": {"$file": {}}}])
    assert not has_files({"a": ["$file", 1, None]})
