"""Downloads from a real server on this machine: one that cuts connections, resumes, changes files, lies."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mien.errors import ManifestInvalid, ModelUnavailable
from mien.zoo.downloads import Downloads, open_downloads
from mien.zoo.manifest import Source
from mien.zoo.progress import Silent
from mien.zoo.sources import https

BODY = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves `body`; `cuts` says after how many bytes the next answers break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"one"'
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.onnx"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers["Range"])
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        fresh = self.headers["If-Range"] in (None, self.server.etag)
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and fresh else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        rest = self.server.body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cuts.pop(0)] if self.server.cuts else rest)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[Downloads]:
    with open_downloads(tmp_path / "downloads", Silent()) as downloads:
        yield downloads


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https.time, "sleep", lambda _: None)


def get(server: Server, downloads: Downloads, path: str | None = None) -> bytes:
    return https.fetch(Source(kind="https", url=server.url, path=path), downloads).read_bytes()


def test_a_file_arrives_whole_and_once_per_pull(server, downloads):
    assert get(server, downloads) == get(server, downloads) == BODY
    assert server.ranges == [None]


def test_a_cut_connection_is_resumed_where_it_broke(server, downloads):
    server.cuts = [300_000, 200_000]
    assert get(server, downloads) == BODY
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert not [path for path in downloads.partial.iterdir() if path.suffix != ".lock"]


def test_the_next_pull_resumes_what_a_killed_one_left(server, downloads, tmp_path):
    server.cuts = [100_000] + [0] * 4
    with pytest.raises(ModelUnavailable, match="what has arrived is kept"):
        get(server, downloads)
    with open_downloads(tmp_path / "downloads", Silent()) as later:
        assert get(server, later) == BODY
    assert server.ranges[-1] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server, downloads):
    server.cuts = [100_000] + [0] * 4
    with pytest.raises(ModelUnavailable):
        get(server, downloads)
    server.etag, server.body = '"two"', BODY[::-1]
    assert get(server, downloads) == BODY[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_pieced_together(server, downloads, etag):
    server.etag, server.cuts = etag, [100_000]
    assert get(server, downloads) == BODY
    assert server.ranges == [None, None]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, downloads):
    server.statuses = [503, 429]
    assert get(server, downloads) == BODY
    server.statuses = [404]
    with pytest.raises(ModelUnavailable, match="answered 404"):
        https.fetch(Source(kind="https", url=server.url + "?other"), downloads)
    assert len(server.ranges) == 4


def test_the_named_file_of_a_zip_is_taken(server, downloads, tmp_path):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.writestr("antelopev2/a.onnx", b"a")
        pack.writestr("antelopev2/b.onnx", b"b")
    server.body = (tmp_path / "pack.zip").read_bytes()
    assert get(server, downloads, "antelopev2/a.onnx") == b"a"
    assert get(server, downloads, "antelopev2/b.onnx") == b"b"
    assert server.ranges == [None]


def test_plain_http_is_refused_beyond_this_machine(downloads):
    with pytest.raises(ManifestInvalid, match="https"):
        https.fetch(Source(kind="https", url="http://models.invalid/model.onnx"), downloads)


def test_a_server_that_is_not_there_is_named(downloads):
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1 could not be reached"):
        https.fetch(Source(kind="https", url="http://127.0.0.1:9/model.onnx"), downloads)


def test_a_zoo_pulls_pins_and_keeps_a_file_of_the_web(server, zoo_of, manifest_of):
    zoo = zoo_of(manifest_of(source=Source(kind="https", url=server.url)))
    assert zoo.ensure("mine").read_bytes() == BODY
    assert zoo.record("mine").sha256 == hashlib.sha256(BODY).hexdigest()
    assert zoo.ensure("mine")
    assert len(server.ranges) == 1
