"""Which files a client may refer to: none on this machine, and none that the app's process would fetch itself."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infsh._caller import CallerRules, reading
from infsh._errors import FileUnavailable
from infsh._file import File
from infsh._http import fetch
from infsh._kernel import protocol

READER = """
from typing import Any, Union
from pydantic import BaseModel, Json
class Hidden(BaseModel):
    file: File | None = None
    def __init__(self, **values):  # pydantic loses its context here
        super().__init__(**values)
class Inner(BaseModel):
    file: File | None = None
class Input(BaseAppInput):
    file: File | None = None
    files: list[File] = []
    named: dict[str, File] = {}
    inner: Inner | None = None
    hidden: Hidden | None = None
    either: Union[Inner, File, None] = None
    text: Json[Inner] | None = None
    data: Any = None
class Output(BaseAppOutput):
    file: File | None = None
    files: list[File] = []
    data: Any = None
class App(BaseApp):
    def run(self, given: Input) -> Output:
        found = [given.file, *given.files, *given.named.values(), given.either]
        found += [one.file for one in (given.inner, given.hidden, given.text) if one]
        return Output(files=[one for one in found if isinstance(one, File)], data=given.data)
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text("the server's keys")
    return path


@pytest.fixture
async def reader(app_folder: Any, start_worker: Any, tmp_path: Path) -> Any:
    """A worker whose run was given one file."""
    worker = await start_worker(app_folder(READER))
    worker.files = tmp_path / "given"
    worker.files.mkdir()
    (worker.files / "mine.txt").write_text("mine")
    return worker


def notations(secret: Path, given: Path) -> Iterator[Any]:
    """A path on this machine, in every form that `File` accepts."""
    path = str(secret)
    yield from (path, f"file://{path}", f"FILE://localhost{path}", f"file://{path.replace('keys', 'k%65ys')}")
    yield from (f"{given}/../{secret.name}", f"../../../../../../../../..{path}", "inference.py", "/proc/self/environ")
    yield from ({"path": path}, {"uri": path}, {"uri": f"file://{path}"}, {"path": path, "uri": None})
    yield from ({"path": path, "uri": ""}, {"uri": path, "path": str(given / "mine.txt")}, {"path": f"file://{path}"})
    (given / "link").symlink_to(secret)
    yield str(given / "link")


async def test_no_path_from_a_client_is_read(reader: Any, secret: Path) -> None:
    for value in notations(secret, reader.files):
        for given in (
            {"file": value}, {"files": [value]}, {"named": {"a": value}}, {"inner": {"file": value}},
            {"hidden": {"file": value}}, {"either": value}, {"text": json.dumps({"file": value})},
        ):  # fmt: skip
            ended = await reader.run(given)
            if ended.type == "failed":  # a union may have found that it is no file at all
                assert ended.kind == "input"
                assert "keys" not in ended.error.replace(str(value), "")
            else:
                assert ended.output["files"] == [], (given, ended)


async def test_what_the_run_was_given_is_read_and_returned(reader: Any, secret: Path) -> None:
    mine = str(reader.files / "mine.txt")
    for value in (mine, {"uri": mine}, {"path": mine}, {"uri": mine, "path": str(secret), "filename": "x"}):
        ended = await reader.run({"file": value})
        (marked,) = ended.output["files"]
        assert Path(marked[reader.marker]["path"]).read_text() == "mine"
    ended = await reader.run({"file": {"uri": "data:,hello", "path": str(secret)}})
    assert Path(ended.output["files"][0][reader.marker]["path"]).read_text() == "hello"


async def test_a_path_in_a_directory_of_the_operator_is_asked_for_and_never_opened_here(
    app_folder: Any, start_worker: Any, tmp_path: Path
) -> None:
    inputs, copied = tmp_path / "inputs", tmp_path / "copied.txt"
    inputs.mkdir()
    (inputs / "a b.txt").write_text("not to be read by this process")
    copied.write_text("the supervisor's copy")
    worker = await start_worker(app_folder(READER), paths=[str(inputs)])
    asked: list[str] = []

    def copy_of(fetch: protocol.Fetch) -> protocol.Fetched:
        asked.append(fetch.url)
        return protocol.Fetched(fetch.fetch_id, str(copied))

    worker.web = copy_of
    path = str(inputs / "a b.txt")
    forms = [path, f"file://{inputs}/a%20b.txt", {"path": path}, {"uri": path}, f"{inputs}/x/../a b.txt"]
    for form in forms:
        for given in (
            {"file": form},
            {"files": [form]},
            {"hidden": {"file": form}},
            {"text": json.dumps({"file": form})},
        ):
            ended = await worker.run(given)
            (marked,) = ended.output["files"]
            assert marked[worker.marker]["path"] == str(copied)
    assert set(asked) == {f"server-file://{inputs}/a%20b.txt"}
    for other in (f"{inputs}/../secret.txt", f"{inputs}-too/a.txt", "a b.txt", str(inputs), "/etc/passwd"):
        asked.clear()
        ended = await worker.run({"file": other})
        if other != str(inputs):
            assert (ended.kind, asked) == ("input", []), other
            assert "MIEN_APP_INPUT_DIRS" in ended.error


async def test_another_runs_files_are_not(reader: Any, tmp_path: Path) -> None:
    other = tmp_path / "given.other"
    other.mkdir()
    (other / "theirs.txt").write_text("theirs")
    assert (await reader.run({"file": str(other / "theirs.txt")})).kind == "input"
    reader.files = None
    assert (await reader.run({"file": str(tmp_path / "given" / "mine.txt")})).kind == "input"


async def test_a_marker_in_an_input_stays_data(reader: Any, secret: Path) -> None:
    for name in ("$file", "$file:", "infsh_mark_local", "file"):
        data = {"a": {name: {"path": str(secret)}}, "b": {"path": str(secret)}, "c": {"path": "/nowhere/at/all"}}
        assert (await reader.run({"data": data})).output["data"] == data
    assert reader.lines("log") == []  # nor is a caller told which paths exist


async def test_setup_values_are_a_callers_too(app_folder: Any, start_worker: Any, secret: Path) -> None:
    worker = await start_worker(
        app_folder("""
        class Setup(BaseAppSetup):
            file: File
        class App(BaseApp):
            def setup(self, setup: Setup):
                print(open(setup.file.path).read())
            def run(self, given: BaseAppInput) -> BaseAppOutput:
                return BaseAppOutput()
    """),
        ready=False,
    )
    await worker.until(protocol.Loaded)
    await worker.send(protocol.Setup({"file": str(secret)}))
    assert (await worker.until(protocol.Fatal)).kind == "setup"
    assert worker.lines("stdout") == []


# --- URLs


def answers(folder: Path, content: str = "fetched") -> Callable[[protocol.Fetch], protocol.Fetched]:
    """A supervisor that finds the same content everywhere."""

    def answer(asked: protocol.Fetch) -> protocol.Fetched:
        path = folder / f"{asked.fetch_id}.bin"
        path.write_text(content)
        return protocol.Fetched(asked.fetch_id, str(path), "image/png")

    return answer


def asked(worker: Any) -> list[tuple[str | None, str]]:
    return [(message.run_id, message.url) for message in worker.got if isinstance(message, protocol.Fetch)]


async def test_every_url_of_a_caller_is_fetched_by_the_supervisor(reader: Any) -> None:
    reader.web = answers(reader.files)
    url = "http://127.0.0.1:9/deep/a.txt?token=secret"
    for number, given in enumerate([
        {"file": url}, {"file": {"uri": url, "path": "/etc/passwd"}}, {"files": [url]}, {"named": {"a": url}},
        {"inner": {"file": url}}, {"hidden": {"file": url}}, {"text": json.dumps({"file": url})},
    ]):  # fmt: skip
        ended = await reader.run(given, run_id=f"r{number}")
        (marked,) = ended.output["files"]
        assert (marked["uri"], marked["content_type"], marked["filename"]) == (url, "image/png", "a.txt")
        assert asked(reader)[-1] == (f"r{number}", url)


async def test_a_url_that_is_no_file_is_not_fetched(reader: Any) -> None:
    ended = await reader.run({"data": {"uri": "http://127.0.0.1:9/a"}})
    assert (ended.output["data"], asked(reader)) == ({"uri": "http://127.0.0.1:9/a"}, [])


async def test_a_file_that_is_not_fetched_fails_the_run_with_its_field_and_code(reader: Any) -> None:
    ended = await reader.run({"inner": {"file": "http://a.example/x"}})
    assert (ended.kind, ended.code) == ("input", "source_refused")
    assert ended.error == "the file of `inner.file` is not available: there is no web here"


async def test_a_run_that_waits_for_a_file_can_be_cancelled(reader: Any) -> None:
    reader.web = lambda request: None
    await reader.send(protocol.Run(run_id="r1", input={"file": "http://a.example/x"}))
    await reader.until(protocol.Fetch)
    await reader.send(protocol.Cancel("r1", 5.0))
    await reader.until(protocol.Cancelled)
    reader.web = answers(reader.files)
    assert (await reader.run({"file": "http://a.example/x"}, run_id="r2")).type == "done"


async def test_a_lazy_file_is_fetched_where_it_is_used_even_while_the_loop_is_blocked(
    app_folder: Any, start_worker: Any, tmp_path: Path
) -> None:
    worker = await start_worker(
        app_folder("""
        class Input(BaseAppInput):
            file: File
            use: bool = True
        class App(BaseApp):
            lazy_files = True
            async def run(self, given: Input) -> AppOutput:
                return AppOutput(text=open(given.file.path).read() if given.use else "unused")
    """)
    )
    worker.web = answers(tmp_path, "late")
    assert (await worker.run({"file": "http://a.example/x", "use": False})).output["text"] == "unused"
    assert asked(worker) == []
    assert (await worker.run({"file": "http://a.example/x"})).output["text"] == "late"


async def test_a_child_process_cannot_ask_in_its_parents_name(app_folder: Any, start_worker: Any) -> None:
    worker = await start_worker(
        app_folder("""
        import multiprocessing
        class Input(BaseAppInput):
            file: File
        def look(file, queue):
            try:
                queue.put(file.path)
            except Exception as error:
                queue.put(str(error))
        class App(BaseApp):
            lazy_files = True
            def run(self, given: Input) -> AppOutput:
                context = multiprocessing.get_context("fork")
                queue = context.SimpleQueue()
                child = context.Process(target=look, args=(given.file, queue))
                child.start()
                said = queue.get()
                child.join()
                return AppOutput(text=said)
    """)
    )
    ended = await worker.run({"file": "http://a.example/x"})
    assert "cannot download" in ended.output["text"]
    assert asked(worker) == []


async def test_urls_in_the_setup_are_fetched_for_it(app_folder: Any, start_worker: Any, tmp_path: Path) -> None:
    worker = await start_worker(
        app_folder("""
        class Setup(BaseAppSetup):
            file: File
        class App(BaseApp):
            def setup(self, setup: Setup):
                self.text = open(setup.file.path).read()
            def run(self, given: BaseAppInput) -> AppOutput:
                return AppOutput(text=self.text)
    """),
        ready=False,
    )
    worker.web = answers(tmp_path, "weights")
    await worker.until(protocol.Loaded)
    await worker.send(protocol.Setup({"file": "http://a.example/x"}))
    await worker.until(protocol.Ready)
    assert asked(worker) == [(None, "http://a.example/x")]
    assert (await worker.run()).output["text"] == "weights"


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of a server, which redirects `/passwd` to a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/passwd" else 200)
            if self.path == "/passwd":
                self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"private")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_redirect_to_another_scheme_is_not_followed(site: str, tmp_path: Path) -> None:
    with pytest.raises(FileUnavailable):
        fetch(f"{site}/passwd", tmp_path / "x", limit=100)
    assert not (tmp_path / "x").exists()


def test_what_the_app_fetched_itself_is_no_callers_copy(site: str, cache: Path) -> None:
    url = f"{site}/a.txt"
    assert File(url).exists()  # the app's own right
    with reading(CallerRules()):
        file = File._validate(url)
    for one in (file, File(file, filename="copy"), copy.deepcopy(file)):
        with pytest.raises(FileUnavailable, match="fetched by the server"):
            _ = one.path
