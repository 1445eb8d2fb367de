"""The ways of docs/architecture are walked: every function that a page names on them is entered by a real request, the
ones of the thread in a thread."""

import re
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import pybase64

import mien
from mien.app import create_app
from mien.settings import Settings
from testing.waiting import eventually_async

PAGES = Path(__file__).parents[5] / "docs" / "architecture"
PHOTO = Path(__file__).parents[2] / "photos" / "person_a_1.jpg"
SOURCE = f"{Path(mien.__file__).parent}/"
_HOP = re.compile(r"`([\w/]+\.py):([\w.]+)`")

OTHER_WAYS = {
    "net/fetch.py:Fetcher.fetch",  # of a URL
    "net/paths.py:read_under",  # of a path
    "faces/service.py:FindFaces",  # a value
    "encoded.py:Encoded",
    "decode/budget.py:Limits",
    "decode/count_msgpack.py:MsgpackPass",  # of the other encoding
    "workers/fit.py:Fit",
    "tasks/builtin.py:BuiltinExecutor.execute",
    "tasks/machine.py:give_back",
    "apps/guardian.py:guard",  # in a process of its own
}
PARSING = {"http/insightface/request.py:parse", "decode/count_json.py:check_json"}

APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    text: str

class AppOutput(BaseAppOutput):
    file: File

class App(BaseApp):
    async def run(self, app_input: AppInput) -> AppOutput:
        with open("made.txt", "w") as made:
            made.write(app_input.text)
        return AppOutput(file=File(path="made.txt"))
"""


def hops(page: str, begin: str, end: str) -> set[str]:
    """What a page names between two headings, but for what other requests need."""
    text = (PAGES / page).read_text()
    part = text[text.index(f"\n## {begin}\n") : text.index(f"\n## {end}\n")]
    found = {f"{path}:{name}" for path, name in _HOP.findall(part) if not path.startswith("_kernel")} - OTHER_WAYS
    assert len(found) > 5
    return found


class Walk:
    """Which functions of the server were entered, by the kind of thread."""

    def __init__(self) -> None:
        self.entered: dict[str, set[str]] = {}

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE):
            kind = threading.current_thread().name.partition("_")[0]
            name = f"{code.co_filename.removeprefix(SOURCE)}:{code.co_qualname}"
            self.entered.setdefault(kind, set()).add(name)

    def missed(self, wanted: set[str], kind: str = "") -> list[str]:
        """Those that were not entered, themselves or, of a class, any of its functions."""
        names = {name for other, names in self.entered.items() if kind in other for name in names}
        return sorted(hop for hop in wanted if not any(name == hop or name.startswith(f"{hop}.") for name in names))


@contextmanager
def walking() -> Any:
    walk = Walk()
    before = sys.getprofile()
    threading.setprofile(walk.note)
    sys.setprofile(walk.note)
    try:
        yield walk
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Any, httpx2.AsyncClient]]:
    """An application in this process, ready, and a client for it."""
    none = dict.fromkeys(("age_model", "gender_model", "mask_model", "image_model", "text_model"), "none")
    app = create_app(Settings(data_dir=folder / "data", **none))
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=60) as client,
    ):
        await eventually_async(lambda: app.state.context.readiness.runtime or app.state.context.readiness.failure)
        assert app.state.context.readiness.failure is None
        yield app, client


async def test_the_way_of_an_image(tmp_path: Path) -> None:
    body = {"images": {"data": [pybase64.b64encode(PHOTO.read_bytes()).decode()]}}
    with walking() as walk:
        async with running(tmp_path) as (_, client):
            walk.entered.clear()  # what the start entered
            found = (await client.post("/extract", json=body)).json()
    assert len(found["data"][0]["faces"]) == 1
    page = "2-image.md"
    loop = hops(page, "On the event loop, before the work", "In one thread, from bytes to vectors")
    assert walk.missed(PARSING) == [], "in a thread for it: the body is large"
    assert walk.missed(loop - PARSING, "MainThread") == []
    thread = hops(page, "In one thread, from bytes to vectors", "Back on the event loop")
    assert walk.missed(thread, "mien-work") == []
    assert walk.missed({"http/insightface/response.py:extract_json", "http/insightface/response.py:render"}) == []


async def test_the_way_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "inference.py").write_text(APP)
    (tmp_path / "app" / "inf.yml").write_text("namespace: test\nname: walk\n")
    with walking() as walk:
        async with running(tmp_path) as (app, client):
            await app.state.context.readiness.tasks.deployer.deploy(tmp_path / "app")
            walk.entered.clear()
            answer = await client.post("/run", json={"app": "test/walk", "input": {"text": "some"}})
            task = answer.json()["data"]
            stream = await client.get(f"/tasks/{task['id']}/stream", headers={"accept": "application/x-ndjson"})
            ended = (await client.get(f"/tasks/{task['id']}")).json()["data"]
    assert stream.text.count("\n") > 1
    assert ended["output"]["file"], ended["error"]
    assert walk.missed(hops("3-task.md", "Accepted", "In the worker")) == []
    assert walk.missed(hops("3-task.md", "Reported and ended", "Statuses")) == []
    assert walk.missed({"tasks/sql/store.py:SqlTaskStore.submit.<locals>.insert"}, "mien-db-writer") == []
