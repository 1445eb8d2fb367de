"""Outputs of a run reach their task in order, with their files stored."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mien.errors import StorageFull
from mien.storage.links import file_id, unquoted_texts
from mien.tasks.run_listener import RunListener
from mien.workers.files import OutputFile, OutputFiles
from mien.workers.listener import NullListener, Stage

MARKER = "$file:secret"


class Report(NullListener):
    """Keeps outputs and stages."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.stages: list[Stage] = []

    def worker(self, name: str) -> None: ...

    def stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def output(self, value: Any) -> None:
        self.outputs.append(value)


class Run:
    """A listener whose files are stored when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = OutputFiles(MARKER, folder / "data", shared=(folder,))
        self.report = Report()
        self.go = asyncio.Event()
        self.full = False
        self.refused = asyncio.Event()
        self.listener = RunListener(self.report, lambda: self.files, self.store, self.report.fetch)
        self.listener.stage(Stage.RUNNING)

    async def store(self, file: OutputFile) -> str:
        await self.go.wait()
        if self.full:
            self.refused.set()
            raise StorageFull("no space")
        return f"stored:{file.path.name}"

    def file(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        path.write_bytes(b"x")
        return {"image": {MARKER: {"path": str(path)}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


async def test_outputs_without_files_are_passed_on_at_once(run: Run) -> None:
    for number in range(3):
        run.listener.output({"n": number})
    assert run.report.outputs == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert await run.listener.final("end", run.files) == "end"
    assert run.report.stages == [Stage.RUNNING], "nothing was uploaded"


async def test_a_text_that_looks_like_a_file_of_the_server_stays_a_text(run: Run) -> None:
    text = f"mien-file://{'0' * 26}/a.png"
    run.go.set()
    run.listener.output({"a": [text], "n": 1})
    final = await run.listener.final({"text": text, **run.file("b")}, run.files)
    for output in (run.report.outputs[0]["a"][0], final["text"]):
        assert file_id(output) is None
        assert unquoted_texts(output) == text
    assert final["image"] == "stored:b"


async def test_none_overtakes_one_that_is_being_stored_and_of_those_that_wait_the_newest_is_kept(run: Run) -> None:
    run.listener.output(run.file("a"))
    await asyncio.sleep(0)
    run.listener.output({"n": 1})
    run.listener.output({"n": 2})
    assert run.report.outputs == []
    run.go.set()
    assert await run.listener.final(run.file("b"), run.files) == {"image": "stored:b"}
    assert run.report.outputs == [{"image": "stored:a"}, {"n": 2}]
    assert run.report.stages == [Stage.RUNNING, Stage.UPLOADING]


async def test_the_app_is_in_its_function_from_its_stage_to_its_return(run: Run) -> None:
    starting = RunListener(run.report, lambda: run.files, run.store, run.report.fetch)
    assert not starting.in_app
    assert run.listener.in_app
    await run.listener.final(None, run.files)
    assert not run.listener.in_app


async def test_a_partial_output_that_cannot_be_stored_fails_the_run(run: Run) -> None:
    run.full = True
    run.listener.output(run.file("a"))
    run.go.set()
    with pytest.raises(StorageFull):
        await run.listener.final("end", run.files)


async def test_one_that_could_not_be_stored_earlier_fails_the_run_too(run: Run) -> None:
    run.full = True
    run.go.set()
    run.listener.output(run.file("a"))
    await run.refused.wait()
    run.full = False
    run.listener.output(run.file("b"))
    with pytest.raises(StorageFull):
        await run.listener.final("end", run.files)


async def test_closing_stops_what_is_being_stored(run: Run) -> None:
    run.listener.output(run.file("a"))
    await asyncio.sleep(0)
    await run.listener.close()
    run.go.set()
    await asyncio.sleep(0.01)
    assert run.report.outputs == []
