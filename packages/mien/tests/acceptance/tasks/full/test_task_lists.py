"""Lists of tasks whose inputs are large: every task is whole, and no page is more than a server can hold."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

COUNT = 40
LARGE = 3_000_000
PAGE = 4 * 1024 * 1024
APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    text: str

class AppOutput(BaseAppOutput):
    text: str

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(text=given.text)
"""


@pytest.fixture(scope="module")
def server(serve_module: Any, light: dict[str, str], make_api: Any) -> Any:
    """A server with many large tasks that wait, and a few small ones before them."""
    server = serve_module(**light)
    api = make_api(server.client)
    api.deploy("large", APP)
    later = time.time() + 3600
    for size in (*[10] * 5, *[LARGE] * COUNT):
        api.run("test/large", {"text": "x" * size}, run_at=later)
    return server


def test_a_list_of_large_tasks_comes_in_pages_of_bounded_size(server: Any) -> None:
    before = server.peak_mb()
    sizes, cursor = [], ""
    while cursor is not None:
        answer = server.client.get("/tasks", params={"limit": 200, "cursor": cursor})
        page = answer.json()["data"]
        assert page["items"]
        assert len(answer.content) < PAGE + 100_000
        assert page["has_next"] is (page["next_cursor"] is not None)
        sizes += [len(task["input"]["text"]) for task in page["items"]]
        cursor = page["next_cursor"]
    assert sizes == [LARGE] * COUNT + [10] * 5
    assert server.peak_mb() - before < COUNT * LARGE / 1e6 / 2


def test_small_tasks_fill_their_page(server: Any) -> None:
    first = server.client.post("/tasks/list", json={"limit": 200}).json()["data"]
    cursor = first["next_cursor"]
    for _ in range(COUNT - 2):
        cursor = server.client.get("/tasks", params={"cursor": cursor}).json()["data"]["next_cursor"]
    last = server.client.get("/tasks", params={"cursor": cursor, "limit": 6}).json()["data"]
    assert [len(task["input"]["text"]) for task in last["items"]] == [LARGE, *[10] * 5]


def test_the_command_lists_as_many_as_were_asked_for(server: Any, mien: Callable[..., Any]) -> None:
    done = mien("tasks", "list", "--limit", "7", "--output", "json", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert [len(task["input"]["text"]) for task in json.loads(done.stdout)] == [LARGE] * 7
