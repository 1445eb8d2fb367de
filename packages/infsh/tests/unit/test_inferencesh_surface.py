"""What the package offers, and how clients are made."""

import ast
import inspect
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import inferencesh
import infsh
from inferencesh import AsyncInference, ConfigurationError, Inference, TaskStatus, errors
from inferencesh._progress import Bar, fraction_of, line, new_logs
from inferencesh._responses import retry_after_seconds
from inferencesh._retry import Backoff

SOURCE = Path(inferencesh.__file__).parent


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    monkeypatch.delenv("INFERENCE_API_KEY", raising=False)
    monkeypatch.delenv("INFERENCE_BASE_URL", raising=False)


def test_only_the_transport_knows_the_http_library():
    knowing = {path.name for path in SOURCE.rglob("*.py") if "httpx" in path.read_text()}
    assert knowing == {"_transport.py", "_sync_io.py", "_async_io.py"}


def test_the_core_does_no_io():
    doing_io = {"_sync_io.py", "_async_io.py"}
    for path in SOURCE.glob("*.py"):
        imported = {
            name.name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for name in node.names
        }
        assert path.name in doing_io or not imported & {"asyncio", "socket", "threading"}, path.name


def test_both_clients_have_the_same_methods_and_arguments():
    for one, other in ((Inference, AsyncInference), (inferencesh.TaskStream, inferencesh.AsyncTaskStream)):
        names = [name for name in dir(one) if not name.startswith("_")]
        assert names == [name for name in dir(other) if not name.startswith("_")]
        for name in names:
            found = (inspect.getattr_static(kind, name) for kind in (one, other))
            parameters = [list(inspect.signature(f).parameters.values()) for f in found if inspect.isfunction(f)]
            assert parameters == [] or parameters[0] == parameters[1], name


def test_programs_find_everything_where_they_look():
    import inferencesh.client
    import inferencesh.models.base
    import inferencesh.models.errors
    import inferencesh.models.file
    import inferencesh.models.output_meta
    import inferencesh.utils.download
    import inferencesh.utils.storage

    assert inferencesh.client.Inference is infsh.Inference is Inference
    assert inferencesh.models.file.File is infsh.File
    assert all(hasattr(inferencesh, name) for name in inferencesh.__all__)
    assert (SOURCE / "py.typed").exists()


def test_all_errors_are_of_one_family():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert all(issubclass(kind, errors.InferenceError) for kind in kinds)
    assert issubclass(errors.TaskFailed, RuntimeError)
    assert issubclass(errors.TaskCancelled, RuntimeError)


def test_statuses_end_with_the_last_three():
    assert [status for status in TaskStatus if status.terminal] == [9, 10, 11]


@pytest.mark.parametrize("kind", [Inference, AsyncInference])
def test_the_local_server_is_the_default_and_needs_no_key(kind):
    assert kind().base_url == kind(api_key="your-api-key").base_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("kind", [Inference, AsyncInference])
def test_the_environment_is_asked(kind, monkeypatch):
    monkeypatch.setenv("INFERENCE_BASE_URL", "https://mien.example.com/base/")
    monkeypatch.setenv("INFERENCE_API_KEY", "key")

    client = kind()

    assert client.base_url == "https://mien.example.com/base"
    assert client._settings.headers["Authorization"] == "Bearer key"
    assert "key" not in repr(client._settings)


def test_another_machine_needs_a_key():
    with pytest.raises(ConfigurationError, match=r"no API key for https://mien\.example\.com: pass api_key"):
        Inference(base_url="https://mien.example.com")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_url": "nonsense"}, "base_url is 'nonsense'"),
        ({"base_url": "ftp://x"}, "base_url is 'ftp://x'"),
        ({"timeout": 0}, "timeout is 0"),
        ({"idle_timeout": math.nan}, "idle_timeout is nan"),
        ({"retries": -1}, "retries is -1"),
        ({"upload_concurrency": 0}, "upload_concurrency is 0"),
        ({"api_key": "a\nb"}, "contains characters that a header cannot have"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Inference(**wrong)


@pytest.mark.parametrize("params", [None, "app", {}, {"app": ""}])
def test_wrong_params_are_named_before_anything_is_sent(params):
    with pytest.raises((TypeError, ValueError), match="app"):
        Inference().run(params)


@pytest.mark.parametrize("task_id", ["", "..", None])
def test_what_is_no_id_is_named(task_id):
    with pytest.raises(ValueError, match="is not an id"):
        Inference().get_task(task_id)


def test_waits_double_and_obey_the_server():
    backoff = Backoff(1.0, 10.0)

    assert [backoff.pause(failures, None, 0.0) for failures in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]
    assert backoff.pause(1, 5.0, 0.0) == 5
    assert backoff.pause(1, 11.0, 0.0) is None


def test_retry_after_is_seconds_or_a_date():
    now = datetime(2025, 1, 1, tzinfo=UTC)

    assert retry_after_seconds("2.5") == 2.5
    assert retry_after_seconds("Wed, 01 Jan 2025 00:00:30 GMT", now) == 30
    assert [retry_after_seconds(value) for value in (None, "soon", "nan", "inf")] == [None] * 4


def test_progress_is_one_line():
    assert line({"status": 2}) == "queued"
    shown = line({"status": 7, "progress": 0.5, "progress_message": "step 1"})
    assert re.fullmatch(r"running   50%  \[#{12} {12}\]  step 1", shown)
    assert fraction_of({"progress": {"fraction": 0.25, "message": "m"}}) == (0.25, "m")
    assert fraction_of({"progress": True}) == (None, "")


def test_a_log_that_was_cut_shows_its_new_lines_only():
    assert new_logs(["a", "b"], ["a", "b", "c"])[0] == ["c"]
    assert new_logs(["a", "b"], ["b", "c"])[0] == ["c"]
    assert new_logs([], [{"content": "x\ny"}])[0] == ["x", "y"]


def test_on_a_terminal_the_line_is_redrawn():
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    bar = Bar(terminal, clock=lambda: 0.0)
    bar({"status": 7, "logs": ["one"]})
    bar({"status": 9, "logs": ["one", "two"]})

    assert terminal.getvalue() == "\r\rone\nrunning  0:00\r             \rtwo\ncompleted  0:00\n"
