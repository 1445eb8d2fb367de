"""A server that is killed at a named point of a task's life: after the restart the task ends exactly once."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

SLOW = {"text": "t", "times": 4, "seconds": 0.15}
FILE = {"do": "file"}


def status(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda task: task["status"] >= number


POINTS: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "accepted": ({}, SLOW, lambda task: True),
    "queued": ({"run_at": "later"}, SLOW, status(2)),
    "scheduled": ({"setup": {"slow": 0.3}}, SLOW, status(3)),
    "preparing": ({"setup": {"slow": 0.3}}, SLOW, status(4)),
    "serving": ({"setup": {"slow": 0.3}}, SLOW, status(5)),
    "setting up": ({"setup": {"slow": 1.0}}, SLOW, status(6)),
    "running": ({}, SLOW, status(7)),
    "partial output": ({}, SLOW, lambda task: bool(task["output"])),
    "logs": ({}, SLOW, lambda task: task["log_count"] >= 3),
    "progress": ({}, SLOW, lambda task: (task["progress"] or 0) >= 0.5),
    "blocked": ({}, {"do": "block", "seconds": 2.0}, status(7)),
    "cancelling": ({"cancel": True}, {**SLOW, "times": 100}, lambda task: task["cancel_requested_at"] is not None),
    "ended": ({}, {"text": "t"}, status(9)),
}
SHORT = ("running", "cancelling")


def killed_at(point: str, serve: Any, make_api: Any, kit: str, light: dict[str, str]) -> None:
    params, given, reached = POINTS[point]
    params = dict(params)
    cancel = params.pop("cancel", False)
    if "run_at" in params:
        params["run_at"] = time.time() + 4
    server = serve(app_memory=512 * 1024**2, task_grace=5, **light)
    api = make_api(server.client)
    api.deploy("kit", kit)
    task_id = api.run("test/kit", given, **params)["id"]
    if cancel:
        api.until(task_id, status(7))
        api.client.post(f"/tasks/{task_id}/cancel")
    before = api.until(task_id, reached)
    server.stop(signal.SIGKILL)
    again = serve(data_dir=server.data_dir, app_memory=512 * 1024**2, task_grace=1, **light)
    api = make_api(again.client)
    ended = api.until(task_id, status(9))
    terminal = [event for event in ended["events"] if event["status"] >= 9]
    assert len(terminal) == 1
    assert ended["status"] == (11 if cancel else 9), ended["error"]
    assert [event["id"] for event in ended["events"]][: len(before["events"])] == [e["id"] for e in before["events"]]
    order = [(event["attempt"], event["status"]) for event in ended["events"]]
    assert order == sorted(order)
    assert api.client.get("/tasks").json()["data"]["items"][0]["id"] == task_id
    assert again.stop() == 0


@pytest.mark.parametrize("point", SHORT)
def test_a_killed_server_loses_no_task(point: str, serve: Any, make_api: Any, kit: str, light: dict[str, str]) -> None:
    killed_at(point, serve, make_api, kit, light)


@pytest.mark.soak
@pytest.mark.parametrize("point", [point for point in POINTS if point not in SHORT])
def test_a_killed_server_loses_no_task_at_any_point(
    point: str, serve: Any, make_api: Any, kit: str, light: dict[str, str]
) -> None:
    killed_at(point, serve, make_api, kit, light)


def test_a_second_server_on_the_same_data_is_refused(serve: Any, light: dict[str, str]) -> None:
    first = serve(**light)
    second = serve(data_dir=first.data_dir, ready=False, **light)
    assert second.process.wait(60) == 1
    assert "another server uses this data directory" in second.log
    assert first.client.get("/tasks").status_code == 200


def test_a_server_that_is_told_to_stop_hands_its_tasks_on(
    serve: Any, make_api: Any, kit: str, light: dict[str, str]
) -> None:
    server = serve(app_memory=512 * 1024**2, drain_seconds=1, **light)
    api = make_api(server.client)
    api.deploy("kit", kit)
    short = api.run("test/kit", {"text": "a", "times": 2, "seconds": 0.2})["id"]
    api.until(short, status(7))
    long = api.run("test/kit", {"text": "b", "times": 30, "seconds": 0.1}, setup={"name": "long"})["id"]
    api.until(long, status(7))
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 6
    again = serve(data_dir=server.data_dir, app_memory=512 * 1024**2, **light)
    api = make_api(again.client)
    assert api.task(short)["status"] == 9
    ended = api.until(long, status(9))
    assert (ended["status"], ended["attempt"]) == (9, 2)
    assert "the server was stopped" in [event["reason"] for event in ended["events"]]
