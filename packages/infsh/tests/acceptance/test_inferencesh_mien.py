"""The client and its commands against a running Mien with a real app."""

import asyncio
import json
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferencesh import APIError, AsyncInference, File, Inference, TaskCancelled, TaskFailed, TaskStatus
from mien.cli.main import app as commands
from mien.cli.output import out
from mien.cli.run import fields

APP = "your-app"
PHOTO = Path(__file__).parents[3] / "mien/tests/photos/person_a_1.jpg"


@pytest.fixture
def client(mien):
    with Inference(base_url=mien) as client:
        yield client


def test_a_result_has_everything_that_the_server_returns(client):
    result = client.run({"app": APP, "setup": {"model": "m"}, "input": {"key": "k"}, "metadata": {"mine": 1}})
    again = client.get_task(result["id"])

    assert result["output"]["text"] == "k"
    assert result["setup"] == {"model": "m"}
    assert result["metadata"] == {"mine": 1}
    assert result["progress"] == 1.0
    assert [line["content"] for line in result["logs"]] == ["working on k"]
    assert [event["status"] for event in result["events"]][-1] == TaskStatus.COMPLETED
    assert {name: result[name] for name in again} == again


def test_each_status_comes_once_and_in_order(client):
    statuses = [update["status"] for update in client.run({"app": APP, "input": {"key": "k"}}, stream=True)]

    assert statuses == sorted(statuses)
    assert statuses[-1] == TaskStatus.COMPLETED
    assert TaskStatus.RUNNING in statuses


def test_files_go_in_and_come_out(client):
    for given in (PHOTO, str(PHOTO), PHOTO.read_bytes(), File(path=PHOTO)):
        image = client.run({"app": APP, "input": {"key": "image", "image": given}})["output"]["image"]
        with urllib.request.urlopen(image) as answer:
            assert answer.read() == PHOTO.read_bytes()


def test_a_failed_task_tells_why(client):
    with pytest.raises(TaskFailed, match="no such luck") as caught:
        client.run({"app": APP, "input": {"key": "k", "fail": "no such luck"}})

    assert caught.value.task["status"] == TaskStatus.FAILED
    assert "working on k" in caught.value.logs


def test_a_cancelled_task_tells_so(client):
    task = client.run({"app": APP, "input": {"key": "k", "seconds": 60}}, wait=False)
    threading.Timer(0.3, client.cancel, [task["id"]]).start()

    started = time.monotonic()
    with pytest.raises(TaskCancelled):
        client.wait_for_completion(task["id"], timeout=30)
    assert time.monotonic() - started < 15


def test_the_same_key_is_the_same_task(client):
    params = {"app": APP, "input": {"key": "once"}}

    first, second = (client.run(params, idempotency_key=f"test-{id(client)}") for _ in range(2))

    assert first["id"] == second["id"]
    with pytest.raises(APIError) as caught:
        client.run({"app": APP, "input": {"key": "other"}}, idempotency_key=f"test-{id(client)}")
    assert (caught.value.status_code, caught.value.code) == (409, "idempotency_conflict")


def test_what_does_not_exist_is_not_found(client):
    for call in (
        lambda: client.get_task("none"),
        lambda: client.cancel("none"),
        lambda: client.wait_for_completion("none"),
        lambda: list(client.stream_task("none")),
        lambda: client.run({"app": "no/such-app"}),
    ):
        with pytest.raises(APIError) as caught:
            call()
        assert caught.value.status_code == 404
        assert caught.value.request_id


def test_namespaces(client):
    task = client.tasks.run({"app": APP, "input": {"key": "listed"}})

    assert client.tasks.list(app=APP, status=TaskStatus.COMPLETED, limit=1)[0]["id"] == task["id"]
    page = client.tasks.list(limit=1)
    assert client.tasks.list(limit=1, cursor=page.next_cursor)[0]["id"] != page[0]["id"]
    assert client.tasks.status(task["id"])["status"] == TaskStatus.COMPLETED
    assert [line["content"] for line in client.tasks.logs(task["id"])] == ["working on listed"]
    assert f"local/{APP}" in [app["id"] for app in client.apps.list()]
    assert client.apps.get(APP)["input_schema"]["properties"]["key"]
    file = client.files.upload(b"kept")
    assert client.files.get(file["id"])["size"] == 4
    assert client.files.list()[0]["id"] == file["id"]
    client.files.delete(file["id"])
    client.tasks.delete(task["id"])
    assert client.sessions.list() == []


def test_a_session_lives_until_it_is_ended(client):
    task = client.run({"app": APP, "session": "new", "input": {"key": "first"}})
    session = task["session_id"]

    assert client.run({"app": APP, "session": session, "input": {"key": "second"}})["session_id"] == session
    assert client.sessions.get(session)["call_count"] >= 1
    assert client.sessions.keepalive(session)
    client.sessions.end(session)


async def test_many_tasks_at_once(mien):
    async with AsyncInference(base_url=mien) as client:
        results = await asyncio.gather(*(client.run({"app": APP, "input": {"key": str(n)}}) for n in range(20)))

    assert [result["output"]["text"] for result in results] == [str(n) for n in range(20)]


# --- commands


def command(*arguments):
    """`mien …` in this process."""
    out.width = 200  # COLUMNS, which pytest-xdist sets, was read when the module was imported
    return CliRunner().invoke(commands, arguments)


def test_mien_run_prints_the_output(mien):
    done = command(
        "run",
        APP,
        "--input",
        "key=value",
        "--file",
        f"image={PHOTO}",
        "--setup",
        "model=small",
        "--url",
        mien,
        "--output",
        "json",
    )

    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    assert (output["text"], output["model"]) == ("value", "small")
    assert PHOTO.name in output["image"]
    assert "completed" in done.stderr
    assert "working on value" in done.stderr


def test_mien_run_says_why_it_failed(mien):
    failed = command("run", APP, "--input", "fail=boom", "--url", mien)
    unknown = command("run", "no/such", "--url", mien)
    nobody = command("run", APP, "--url", "http://127.0.0.1:9")
    no_pair = command("run", APP, "--input", "key", "--url", mien)
    no_file = command("run", APP, "--file", "image=/no/such", "--url", mien)

    assert [done.exit_code for done in (failed, unknown, nobody, no_pair, no_file)] == [1] * 5
    assert "boom" in failed.stderr
    assert "(app_unknown)" in unknown.stderr
    assert "cannot connect to" in nobody.stderr
    assert "expected KEY=VALUE" in no_pair.stderr
    assert "no such file" in no_file.stderr


def test_mien_run_streams(mien):
    done = command("run", APP, "--input", "key=value", "--stream", "--url", mien)

    assert done.exit_code == 0, done.stderr
    assert "value" in done.stdout


def test_mien_tasks(mien):
    task_id = command("run", APP, "--input", "seconds=60", "--no-wait", "--url", mien).stdout.strip()

    shown = command("tasks", "show", task_id, "--url", mien, "--output", "json")
    table = command("tasks", "show", task_id, "--url", mien)
    listed = command("tasks", "list", "--app", APP, "--url", mien, "--output", "json")
    cancelled = command("tasks", "cancel", task_id, "--url", mien)
    watched = command("tasks", "watch", task_id, "--url", mien)
    logs = command("tasks", "logs", task_id, "--url", mien)
    found = command("tasks", "list", "--status", "cancelled", "--url", mien)

    assert json.loads(shown.stdout)["input"] == {"seconds": 60}
    assert "local/your-app" in table.stdout
    assert task_id in listed.stdout
    assert cancelled.exit_code == 0, cancelled.stderr
    assert watched.exit_code == 1
    assert "was cancelled" in watched.stderr
    assert logs.exit_code == 0
    assert task_id in found.stdout


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            ["a=1", "b=text", "c=[1, 2]", "d.e.f=true", "g=x=y"],
            {"a": 1, "b": "text", "c": [1, 2], "d": {"e": {"f": True}}, "g": "x=y"},
        )
    ],
)
def test_arguments_are_json_or_text(pairs, expected):
    assert fields("--input", pairs) == expected
