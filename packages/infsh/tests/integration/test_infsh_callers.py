"""Which files a client may refer to: none on this machine, and none at an address that only this machine can reach."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infsh import _public
from infsh._addresses import is_public
from infsh._caller import CallerRules, reading
from infsh._errors import FileUnavailable
from infsh._file import File
from infsh._http import fetch

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
PRIVATE = [
    "127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0", "0", "localhost", "localhost.",  # noqa: S104
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254", "10.0.0.1",
    "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fd00:ec2::254]", "[fe80::1]",
]  # fmt: skip


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
    from infsh._kernel import protocol

    await worker.until(protocol.Loaded)
    await worker.send(protocol.Setup({"file": str(secret)}))
    assert (await worker.until(protocol.Fatal)).kind == "setup"
    assert worker.lines("stdout") == []


# --- URLs


@pytest.fixture
def site() -> Iterator[Callable[[str], str]]:
    """The URL of a private server, by host; `asked` has the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302 if self.path in ("/moved", "/passwd") else 200)
            if self.path == "/moved":
                self.send_header("Location", f"http://127.0.0.1:{server.server_address[1]}/private")
            if self.path == "/passwd":
                self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"private")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def url(host: str) -> str:
        return f"http://{host}:{server.server_address[1]}"

    url.asked = asked  # type: ignore[attr-defined]
    yield url
    server.shutdown()
    server.server_close()


async def test_no_private_address_is_contacted(reader: Any, site: Any) -> None:
    for host in PRIVATE:
        for value in (f"{site(host)}/a.txt", {"uri": f"{site(host)}/a.txt", "path": "/tmp/a.txt"}):
            ended = await reader.run({"file": value})
            assert (ended.type, ended.kind) == ("failed", "input"), host
    assert site.asked == []


async def test_a_proxy_does_not_lead_around_it(app_folder: Any, start_worker: Any, site: Any) -> None:
    worker = await start_worker(
        app_folder(READER), env={"http_proxy": site("127.0.0.1"), "all_proxy": site("127.0.0.1")}
    )
    assert (await worker.run({"file": f"{site('10.0.0.1')}/a.txt"})).kind == "input"
    assert site.asked == []


async def test_private_addresses_can_be_allowed(app_folder: Any, start_worker: Any, site: Any) -> None:
    worker = await start_worker(app_folder(READER), fetch_private=True)
    ended = await worker.run({"file": f"{site('127.0.0.1')}/a.txt"})
    assert ended.output["files"][0]["uri"] == f"{site('127.0.0.1')}/a.txt"
    assert site.asked == ["/a.txt"]


def test_a_redirect_does_not_lead_to_one(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host counts as public here, as none of the tests' machine is; what it redirects to is looked at."""
    seen: list[str] = []

    def first_is_public(address: Any) -> bool:
        seen.append(str(address))
        return len(seen) == 1 or is_public(address)

    monkeypatch.setattr(_public, "is_public", first_is_public)
    with pytest.raises(FileUnavailable, match="not on the public internet"):
        fetch(f"{site('localhost')}/moved", tmp_path / "x", limit=100, public_only=True)
    assert site.asked == ["/moved"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("public_only", [True, False])
def test_a_redirect_to_another_scheme_is_not_followed(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public_only: bool
) -> None:
    monkeypatch.setattr(_public, "is_public", lambda _: True)
    with pytest.raises(FileUnavailable):
        fetch(f"{site('127.0.0.1')}/passwd", tmp_path / "x", limit=100, public_only=public_only)
    assert not (tmp_path / "x").exists()


def test_the_guarded_download_is_a_download(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_public, "is_public", lambda _: True)
    reply = fetch(f"{site('127.0.0.1')}/moved", tmp_path / "x", limit=100, public_only=True)
    assert ((tmp_path / "x").read_bytes(), reply.size) == (b"private", 7)
    with pytest.raises(FileUnavailable, match="more than the 3 allowed"):
        fetch(f"{site('127.0.0.1')}/a", tmp_path / "y", limit=3, public_only=True)


def test_what_the_app_fetched_itself_is_no_callers_copy(site: Any, cache: Path) -> None:
    url = f"{site('127.0.0.1')}/a.txt"
    assert File(url).exists()  # the app's own right
    with reading(CallerRules()):
        file = File._validate(url)
    for one in (file, File(file, filename="copy")):
        with pytest.raises(FileUnavailable, match="not on the public internet"):
            _ = one.path


def test_a_name_with_one_private_address_is_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = [(2, 1, 6, "", (address, 80)) for address in ("93.184.215.14", "127.0.0.1")]
    monkeypatch.setattr(_public.socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(FileUnavailable, match="not on the public internet"):
        fetch("http://both.example/a", tmp_path / "x", limit=100, public_only=True)
