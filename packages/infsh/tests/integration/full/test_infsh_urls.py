"""Files by URL from a real HTTP server: lazily, atomically, bounded, revalidated."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infsh import File, FileUnavailable, StorageDir, download
from infsh._cache import FileCache


class Site:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"one"
        self.headers: dict[str, str] = {}
        self.length: int | None = None
        self.announced = True
        self.failures = 0
        self.pause = 0.0
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.asked.append(headers)
        status = self.status
        if self.failures:
            self.failures -= 1
            status = 503
        if request.path == "/moved":
            status, self.headers = 302, {"Location": "/image"}
        if status == 200 and "ETag" in self.headers and headers.get("if-none-match") == self.headers["ETag"]:
            status = 304
        body = self.body if status == 200 else b""
        request.send_response(status)
        for key, value in self.headers.items():
            request.send_header(key, value)
        if status != 304 and self.announced:
            request.send_header("Content-Length", str(self.length or len(body)))
        request.end_headers()
        request.wfile.write(body[:3])
        time.sleep(self.pause)
        request.wfile.write(body[3:])


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                site.answer(self)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def content(url: str) -> bytes:
    return Path(File(url).path).read_bytes()


def temporaries(cache: Path) -> list[Path]:
    return list((cache / "files" / ".tmp").glob("*"))


def test_nothing_is_downloaded_before_it_is_needed(site):
    file = File(f"{site.url}/an%20image.png?x=1")
    assert (file.filename, file.content_type, file.size) == ("an image.png", "image/png", None)
    assert file.to_dict() == {"uri": file.uri, "filename": "an image.png", "content_type": "image/png"}
    assert site.asked == []
    assert Path(file.path).read_bytes() == b"one"
    assert Path(file.path).name == "an image.png"
    assert file.size == 3
    assert len(site.asked) == 1


async def test_ensure_downloads_without_blocking(site):
    site.pause, site.body = 0.2, b"first the rest"
    file = File(f"{site.url}/x")
    ticks = 0
    task = asyncio.create_task(file.ensure())
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 5
    assert file.is_local


async def test_a_cancelled_download_leaves_nothing(site, cache):
    site.pause, site.body = 0.5, b"first the rest"
    task = asyncio.create_task(File(f"{site.url}/x").ensure())
    while not site.asked:  # noqa: ASYNC110  # another thread has no event of this loop
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(_until, lambda: not temporaries(cache))


def test_a_copy_is_revalidated_by_etag(site):
    site.headers = {"ETag": '"1"'}
    assert content(site.url) == b"one"
    assert content(site.url) == b"one"
    assert [asked.get("if-none-match") for asked in site.asked] == [None, '"1"']
    site.body, site.headers = b"two", {"ETag": '"2"'}
    assert content(site.url) == b"two"


def test_a_copy_is_revalidated_by_date(site):
    site.headers = {"Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT"}
    content(site.url)
    content(site.url)
    assert site.asked[1]["if-modified-since"] == "Sat, 01 Jan 2000 00:00:00 GMT"


def test_a_fresh_copy_is_used_without_asking(site):
    site.headers = {"Cache-Control": "public, max-age=60"}
    assert content(site.url) == content(site.url)
    assert len(site.asked) == 1


@pytest.mark.parametrize("control", ["max-age=0", "no-cache, max-age=60", "no-store"])
def test_a_copy_that_must_be_revalidated_is(site, control):
    site.headers = {"Cache-Control": control}
    content(site.url)
    content(site.url)
    assert len(site.asked) == 2


def test_a_new_version_does_not_change_the_file_in_use(site):
    old = File(site.url).path
    site.body = b"two, longer"
    assert Path(File(site.url).path).read_bytes() == b"two, longer"
    assert Path(old).read_bytes() == b"one"


def test_a_copy_serves_while_the_server_is_broken(site):
    content(site.url)
    site.status = 503
    assert content(site.url) == b"one"
    site.status = 404
    with pytest.raises(FileUnavailable, match="responded with 404"):
        content(site.url)


def test_a_cut_connection_leaves_no_file(site, cache):
    site.length = 1000
    with pytest.raises(FileUnavailable, match="Error downloading URL"):
        content(site.url)
    assert not [path for path in (cache / "files").rglob("*") if path.is_file()]
    site.length = None
    assert content(site.url) == b"one"


def test_a_short_failure_is_tried_again(site):
    site.failures = 2
    assert content(site.url) == b"one"
    assert len(site.asked) == 3


def test_a_final_answer_is_not_tried_again(site):
    site.status = 403
    with pytest.raises(RuntimeError, match="responded with 403"):
        content(site.url)
    assert len(site.asked) == 1
    assert not File(site.url).exists()


def test_redirects_are_followed(site):
    assert content(f"{site.url}/moved") == b"one"


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_refused(site, announced, monkeypatch, cache):
    monkeypatch.setenv("INFSH_MAX_FILE_BYTES", "1000")
    site.body, site.announced = b"x" * 100_000, announced
    with pytest.raises(FileUnavailable, match="1000"):
        content(site.url)
    assert temporaries(cache) == []


def test_the_server_tells_the_type_where_the_name_does_not(site):
    site.headers = {"Content-Type": "image/webp; x=1"}
    file = File(f"{site.url}/thing")
    assert file.content_type is None
    assert file.exists()
    assert file.content_type == "image/webp"
    site.headers, site.body = {"Content-Type": "application/octet-stream"}, b"%PDF-1.7"
    other = File(f"{site.url}/other")
    assert other.exists()
    assert other.content_type == "application/pdf"


def test_the_cache_is_bounded_and_drops_what_was_used_least(site, tmp_path):
    site.body = b"x" * 1000
    site.headers = {"Cache-Control": "max-age=1000"}
    cache = FileCache(tmp_path / "small", limit=2500, keep=0)
    paths = []
    for name in "abc":
        if name == "c":
            cache.url(f"{site.url}/a")  # used again: b is older now
        paths.append(cache.url(f"{site.url}/{name}")[0])
        time.sleep(0.01)
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_was_just_used_is_not_dropped(site, tmp_path):
    site.body = b"x" * 1000
    cache = FileCache(tmp_path / "small", limit=1500, keep=60)
    paths = [cache.url(f"{site.url}/{name}")[0] for name in "abc"]
    assert all(path.exists() for path in paths)


async def test_the_same_url_is_downloaded_once_at_a_time(site):
    site.pause, site.headers = 0.1, {"Cache-Control": "max-age=60"}
    files = [File(site.url) for _ in range(5)]
    await asyncio.gather(*(file.ensure() for file in files))
    assert len(site.asked) == 1
    assert len({file.path for file in files}) == 1


def test_download_puts_a_file_where_it_is_wanted(site, tmp_path):
    path = Path(download(f"{site.url}/weights.bin", tmp_path / "deep" / "er"))
    assert path.read_bytes() == b"one"
    assert path.is_relative_to(tmp_path / "deep" / "er")
    site.body = b"two"
    assert download(f"{site.url}/weights.bin", tmp_path / "deep" / "er") == str(path)
    assert path.read_bytes() == b"one"


def test_storage_dirs_are_there_outside_of_a_container(site, tmp_path, monkeypatch):
    monkeypatch.setenv("INFSH_STORAGE_DIR", str(tmp_path / "storage"))
    assert StorageDir.DATA == "/app/data"
    assert StorageDir.DATA.path == tmp_path / "storage" / "data"
    assert StorageDir.CACHE.path.is_dir()
    first = Path(download(f"{site.url}/x", StorageDir.TEMP))
    site.body = b"two"
    assert Path(download(f"{site.url}/x", StorageDir.TEMP)).read_bytes() == b"two"
    assert first.is_relative_to(StorageDir.TEMP.path)


def test_without_a_url_nothing_is_downloaded():
    with pytest.raises(FileUnavailable, match="Error downloading URL"):
        content("http://")


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
