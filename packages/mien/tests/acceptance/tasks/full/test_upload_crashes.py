"""A server that is killed while files come in, from a task or from a client: they are there whole, or not at all."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from testing.waiting import eventually

DYING = str(Path(__file__).parents[3] / "dying_server.py")
SIZE = 5_000_000
MAKER = f"""
import hashlib
import os
from pathlib import Path

from infsh import BaseApp, BaseAppInput, BaseAppOutput, File


class AppInput(BaseAppInput):
    pass


class AppOutput(BaseAppOutput):
    sha256: str
    made: File


class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        content = os.urandom({SIZE})  # another one in each attempt: what a dead one left is told from it
        Path("made.bin").write_bytes(content)
        return AppOutput(sha256=hashlib.sha256(content).hexdigest(), made=File(path=str(Path("made.bin").resolve())))
"""
STEPS = ["announced", "half_written", "written", "renamed", "recorded", "ending", "ended"]
SHORT = "half_written"
UPLOAD_STEPS = [pytest.param(step, marks=pytest.mark.soak) for step in STEPS[1:5]]
OTHERS = [pytest.param(step, marks=pytest.mark.soak) for step in STEPS if step != SHORT]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers put their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def blobs(server: Any) -> list[Path]:
    return list((server.data_dir / "files" / "blobs").glob("*/*/*"))


def an_hour_later(server: Any) -> None:
    """What lies there is old enough for the next server's housekeeping."""
    for path in blobs(server):
        os.utime(path, (time.time() - 7200,) * 2)


def records(api: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get("/files").json()["data"]["items"]
    return found


def check(server: Any, api: Any, temporary: Path) -> None:
    """Each record with content has all of it, and there is nothing besides."""
    stored = {record["sha256"] for record in records(api) if record["ready"]}
    eventually(lambda: {path.name for path in blobs(server)} == stored)
    for record in records(api):
        answer = httpx2.get(record["uri"], trust_env=False)
        if record["ready"]:
            assert hashlib.sha256(answer.content).hexdigest() == record["sha256"]
            assert len(answer.content) == record["size"]
        else:
            assert answer.status_code == 404
    assert list((server.data_dir / "files" / "uploads").iterdir()) == []
    left = [path.name for path in temporary.rglob("*") if path.is_file()]
    assert [name for name in left if name != ".ses"] == []  # ONNX Runtime has one of that name


@pytest.mark.parametrize("step", [SHORT, *OTHERS])
def test_a_task_whose_file_was_under_way_ends_once_with_a_whole_file(
    step: str, serve: Any, make_api: Any, light: dict[str, str], temporary: Path
) -> None:
    server = serve(program=(DYING, step), app_memory=512 * 1024**2, **light)
    api = make_api(server.client)
    api.deploy("maker", MAKER)
    task_id = api.run("test/maker")["id"]
    assert server.process.wait(60) == -signal.SIGKILL, "the step was never reached"
    an_hour_later(server)
    again = serve(data_dir=server.data_dir, app_memory=512 * 1024**2, **light)
    api = make_api(again.client)
    ended = api.until(task_id, lambda task: task["status"] >= 9)
    assert ended["status"] == 9, ended["error"]
    assert len([event for event in ended["events"] if event["status"] >= 9]) == 1
    assert (1, 8) in [(event["attempt"], event["status"]) for event in ended["events"]]
    assert ended["attempt"] == (1 if step == "ended" else 2)
    made = httpx2.get(ended["output"]["made"], trust_env=False).content
    assert hashlib.sha256(made).hexdigest() == ended["output"]["sha256"]
    eventually(lambda: all(record["ready"] for record in api.client.get(f"/tasks/{task_id}/files").json()["data"]))
    check(again, api, temporary)
    assert again.stop() == 0


def put(url: str, content: Any) -> Any:
    return httpx2.put(url, content=content, timeout=30, trust_env=False)


def post_form(url: str, content: Any) -> Any:
    """`content` as the only part of a form."""
    head = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'

    def form() -> Iterator[bytes]:
        yield head
        yield from [content] if isinstance(content, bytes) else content
        yield b"\r\n--frontier--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=frontier"}
    return httpx2.post(url, content=form(), headers=kind, timeout=30, trust_env=False)


@pytest.mark.parametrize("step", ["half_sent", *UPLOAD_STEPS])
@pytest.mark.parametrize("send", [put, post_form])
def test_an_upload_that_was_under_way_can_be_sent_again(
    send: Callable[[str, Any], Any], step: str, serve: Any, make_api: Any, light: dict[str, str], temporary: Path
) -> None:
    content = os.urandom(SIZE)
    server = serve(program=("-m", "mien") if step == "half_sent" else (DYING, step), **light)
    record = server.client.post("/files", json={"files": [{"filename": "a.bin"}]}).json()["data"][0]
    path = record["upload_url"].removeprefix(server.url) if send is put else "/files"

    def sent() -> Iterator[bytes]:
        yield content[: SIZE // 2]
        if step == "half_sent":
            if send is put:
                eventually(lambda: any((server.data_dir / "files" / "uploads").iterdir()))
            time.sleep(0.2)
            server.stop(signal.SIGKILL)
        yield content[SIZE // 2 :]

    with pytest.raises(httpx2.TransportError):
        send(server.url + path, sent())
    assert server.process.wait(60) == -signal.SIGKILL
    an_hour_later(server)
    again = serve(data_dir=server.data_dir, **light)
    api = make_api(again.client)
    check(again, api, temporary)
    answer = send(again.url + path, content)
    assert answer.status_code == 200, answer.text
    assert again.client.get(answer.json()["data"]["uri"]).content == content
    check(again, api, temporary)
    assert again.stop() == 0
