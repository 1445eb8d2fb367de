"""A server whose disk is full: it says so, leaves nothing half done, and goes on once there is room."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

DISK_BYTES = 64 * 1024**2
SIZE = 5_000_000
MAKER = f"""
import asyncio
import os
from pathlib import Path

from infsh import BaseApp, BaseAppInput, BaseAppOutput, File


class AppInput(BaseAppInput):
    do: str = ""
    text: str = ""
    path: str = ""
    file: File | None = None


class AppOutput(BaseAppOutput):
    text: str = ""
    made: File | None = None


class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        if given.do == "wait":
            while not Path(given.path).exists():
                await asyncio.sleep(0.02)
            for number in range(20):
                print("line", number)
            return AppOutput(text="waited")
        if given.do == "make":
            Path(given.path).write_bytes(os.urandom({SIZE}))
            return AppOutput(made=File(path=given.path))
        return AppOutput()
"""


class SmallDisk:
    """A filesystem of its own that can be filled to the last byte."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def fill(self, leave: int = 0) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1024**2, 4096):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:  # full: that is the aim
                    continue
            ballast.truncate(ballast.tell() - leave)

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def free(self) -> int:
        """In blocks."""
        return os.statvfs(self.root).f_bavail


@contextmanager
def small_disk(root: Path) -> Iterator[SmallDisk]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "mien-test", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small filesystem cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(root)
    finally:  # lazily: workers of a server that was just killed may live for some milliseconds more
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallDisk, SmallDisk]]:
    """That of the data directory, and that of temporary files."""
    data, temporary = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("temporary")
    with small_disk(data) as one, small_disk(temporary) as other:
        yield one, other


@pytest.fixture(scope="module")
def server(disks: tuple[SmallDisk, SmallDisk], serve_module: Any, light: dict[str, str]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(disks[1].root))
        return serve_module(data_dir=disks[0].root / "data", app_memory=512 * 1024**2, **light)


@pytest.fixture
def disk(disks: tuple[SmallDisk, SmallDisk]) -> Iterator[SmallDisk]:
    """The one of the data directory; there is room after each test."""
    yield disks[0]
    disks[0].make_room()


@pytest.fixture
def temporary(disks: tuple[SmallDisk, SmallDisk]) -> Iterator[SmallDisk]:
    yield disks[1]
    disks[1].make_room()


@pytest.fixture(scope="module")
def api(server: Any, make_api: Any) -> Any:
    """A worker of the app is warm."""
    found = make_api(server.client)
    found.deploy("maker", MAKER)
    assert found.ended(found.run("test/maker", {"do": "nothing"})["id"])["status"] == 9
    return found


Send = Callable[[bytes], httpx2.Response]


def put(client: httpx2.Client) -> Send:
    record = client.post("/files", json={"files": [{"filename": "a.bin"}]}).json()["data"][0]
    return lambda content: client.put(record["upload_url"], content=content)


def post_form(client: httpx2.Client) -> Send:
    return lambda content: client.post("/files", files={"file": ("a.bin", content)})


def stored(server: Any) -> set[Path]:
    """The files below the data directory's files."""
    return {path for path in (server.data_dir / "files").rglob("*") if path.is_file()}


def records(client: httpx2.Client) -> list[tuple[str, bool]]:
    return [(record["id"], record["ready"]) for record in client.get("/files").json()["data"]["items"]]


def assert_refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 507, answer.text
    assert answer.json()["error"]["code"] == "storage_full"
    assert "disk is full" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("way", [put, post_form])
def test_an_upload_that_does_not_fit_leaves_nothing_and_fits_later(
    way: Callable[[httpx2.Client], Send], disk: SmallDisk, temporary: SmallDisk, server: Any
) -> None:
    content = os.urandom(SIZE)
    send = way(server.client)
    disk.fill(leave=SIZE // 2)
    before = (stored(server), records(server.client), temporary.free())
    for _ in range(3):  # nothing piles up
        assert_refused(send(content))
        assert (stored(server), records(server.client), temporary.free()) == before
    assert post_form(server.client)(b"small").status_code == 200
    disk.make_room()
    answer = send(content)
    assert answer.status_code == 200, answer.text
    assert server.client.get(answer.json()["data"]["uri"]).content == content


def test_a_form_that_does_not_fit_into_the_temporary_folder_is_refused(temporary: SmallDisk, server: Any) -> None:
    send = post_form(server.client)
    temporary.fill(leave=SIZE // 2)
    before = (stored(server), records(server.client), temporary.free())
    for _ in range(3):
        assert_refused(send(bytes(SIZE)))
        assert (stored(server), records(server.client), temporary.free()) == before
    temporary.make_room()
    assert send(bytes(SIZE)).status_code == 200


def test_a_task_whose_file_does_not_fit_fails_and_says_which(
    disk: SmallDisk, server: Any, api: Any, tmp_path: Path
) -> None:
    given = {"do": "make", "path": str(tmp_path / "made.bin")}
    disk.fill(leave=SIZE // 2)
    before = (stored(server), records(server.client))
    ended = api.ended(api.run("test/maker", given)["id"])
    assert (ended["status"], ended["error_code"], ended["attempt"]) == (10, "storage_full", 1)
    assert ended["error"] == "made.bin: the server's disk is full; the file was not stored"
    assert [event["status"] for event in api.task(ended["id"])["events"]][-2:] == [8, 10]
    assert (stored(server), records(server.client)) == before
    disk.make_room()
    again = api.ended(api.run("test/maker", given)["id"])
    assert again["status"] == 9, again["error"]
    assert httpx2.get(again["output"]["made"], trust_env=False).content == (tmp_path / "made.bin").read_bytes()


def test_a_task_whose_input_does_not_fit_fails_and_says_which(disk: SmallDisk, server: Any, api: Any) -> None:
    given = {"file": post_form(server.client)(os.urandom(SIZE)).json()["data"]["uri"]}
    disk.fill(leave=SIZE // 2)
    ended = api.ended(api.run("test/maker", given)["id"])
    assert (ended["status"], ended["error_code"]) == (10, "storage_full")
    assert ended["error"] == "the server's disk is full; a.bin was not given to the app"
    disk.make_room()
    again = api.ended(api.run("test/maker", given)["id"])
    assert again["status"] == 9, again["error"]


def test_a_task_whose_worker_does_not_fit_fails_and_says_so(disk: SmallDisk, server: Any, api: Any) -> None:
    api.deploy("large", MAKER, **{"weights.txt": "x" * SIZE})
    workers = set((server.data_dir / "workers").glob("*/*"))
    disk.fill(leave=SIZE // 2)
    ended = api.ended(api.run("test/large")["id"])
    assert (ended["status"], ended["error_code"]) == (10, "storage_full")
    assert ended["error"] == "the server's disk is full; the worker was not started"
    assert set((server.data_dir / "workers").glob("*/*")) <= workers
    disk.make_room()
    again = api.ended(api.run("test/large")["id"])
    assert again["status"] == 9, again["error"]


def submit_until_full(api: Any) -> list[str]:
    """Tasks for later until not even a small one fits; the ids of those that were accepted."""
    accepted: list[str] = []
    for size in (100_000, 10_000, 1_000):
        body = {"app": "test/maker", "input": {"text": "x" * size}, "run_at": time.time() + 3600}
        while (answer := api.client.post("/run", json=body)).status_code == 200:
            accepted.append(answer.json()["data"]["id"])
            assert len(accepted) < 500
        assert_refused(answer)
    return accepted


def all_tasks(api: Any) -> dict[str, int]:
    """Every task's status."""
    found: dict[str, int] = {}
    cursor = None
    while True:
        body = {"limit": 100} if cursor is None else {"limit": 100, "cursor": cursor}
        page = api.client.post("/tasks/list", json=body).json()["data"]
        found |= {task["id"]: task["status"] for task in page["items"]}
        if not page["has_next"]:
            return found
        cursor = page["next_cursor"]


def test_a_submission_that_cannot_be_stored_is_refused_and_nothing_is_lost(
    disk: SmallDisk, temporary: SmallDisk, server: Any, api: Any
) -> None:
    before = all_tasks(api)
    disk.fill()
    accepted = submit_until_full(api)
    wanted = {"app": "test/maker", "input": {"text": "wanted" * 10_000}, "idempotency_key": "once"}
    for _ in range(3):
        assert_refused(api.client.post("/run", json=wanted))
    assert_refused(api.client.post("/files", json={"files": [{"filename": "b" * 200}] * 100}))
    assert_refused(post_form(server.client)(bytes(SIZE)))
    assert all_tasks(api) == before | dict.fromkeys(accepted, 2)
    assert api.client.get("/readyz").status_code == 200
    disk.make_room()
    answer = api.client.post("/run", json=wanted)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    ended = api.ended(answer.json()["data"]["id"])
    assert ended["status"] == 9, ended["error"]
    for task_id in accepted:
        assert api.client.post(f"/tasks/{task_id}/cancel").json()["data"]["status"] == 11
    assert all_tasks(api) == before | dict.fromkeys(accepted, 11) | {ended["id"]: 9}


def test_the_end_of_a_task_is_written_once_there_is_room(
    disk: SmallDisk, server: Any, api: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task_id = api.run("test/maker", {"do": "wait", "path": str(go)})["id"]
    api.until(task_id, lambda task: task["status"] == 7)
    disk.fill()
    submit_until_full(api)
    go.touch()
    deadline = time.monotonic() + 30
    while "the end of a task is not written yet" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert api.task(task_id)["status"] == 7
    disk.make_room()
    ended = api.until(task_id, lambda task: task["status"] >= 9)
    assert (ended["status"], ended["output"]["text"]) == (9, "waited")
    assert [event["status"] for event in ended["events"]].count(9) == 1
    lines = [line["content"] for line in ended["logs"]]
    assert [line for line in lines if line.startswith("line ")] == [f"line {number}" for number in range(20)]
