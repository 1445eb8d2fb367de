"""Files that clients name by URL, on their way to the disk. From real servers on this machine."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mien.errors import BodyTooLarge, SourceFailed, SourceNotFound, SourceRefused
from mien.net import connect, fetch
from mien.net.fetch import Fetcher
from mien.tasks.downloads import download
from testing.web import Request, Serve, answer, in_turn, serving

MIB = 1024 * 1024


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with fetcher_of(100 * MIB) as made:
        yield made


def fetcher_of(max_bytes: int) -> Fetcher:
    return Fetcher(allow_private=True, timeout=5.0, tries=3, max_bytes=max_bytes, too_large=BodyTooLarge)


async def test_a_file_is_named_and_typed_as_its_server_says(serve: Serve, fetcher: Fetcher, tmp_path: Path) -> None:
    server = await serve(answer(b"content", content_type="Image/PNG; charset=x"))
    file = await download(fetcher, server.url("/a/b%20c.png?token=secret#x"), tmp_path)
    assert (file.path.name, file.path.read_bytes(), file.content_type) == ("b c.png", b"content", "image/png")
    assert server.requests[0].headers["accept"] == "*/*"
    for path, name in (("/", "download"), ("/..%2F..%2Fetc%2Fpasswd", "passwd"), ("/a/..%00", "file")):
        file = await download(fetcher, server.url(path), tmp_path)
        assert (file.path.name, file.path.parents[1]) == (name, tmp_path)
    octets = await serve(answer(content_type="application/octet-stream"))
    assert (await download(fetcher, octets.url(), tmp_path)).content_type is None


async def test_a_large_file_is_never_in_memory(serve: Serve, fetcher: Fetcher, tmp_path: Path) -> None:
    async def large(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {24 * MIB}\r\n\r\n".encode())
        for _ in range(24):
            writer.write(bytes(MIB))
            await writer.drain()

    server = await serve(large)
    tracemalloc.start()
    try:
        file = await download(fetcher, server.url(), tmp_path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.path.stat().st_size == 24 * MIB
    assert most < 8 * MIB


@pytest.mark.parametrize(("status", "kind"), [
    ("404 Not Found", SourceNotFound), ("403 Forbidden", SourceFailed), ("503 Busy", SourceFailed),
])  # fmt: skip
async def test_a_failure_names_the_url_without_its_secrets_and_leaves_nothing(
    serve: Serve, fetcher: Fetcher, tmp_path: Path, status: str, kind: type[Exception]
) -> None:
    server = await serve(answer(status=status))
    with pytest.raises(kind, match=f"http://127.0.0.1:{server.port}/a") as caught:
        await download(fetcher, server.url("/a?token=secret"), tmp_path)
    assert "secret" not in str(caught.value)
    assert len(server.requests) == (3 if status.startswith("5") else 1)
    assert list(tmp_path.iterdir()) == []


async def test_an_attempt_that_breaks_off_is_repeated_from_the_start(
    serve: Serve, fetcher: Fetcher, tmp_path: Path
) -> None:
    server = await serve(in_turn(answer(b"half", content_length="9"), answer(b"whole")))
    assert (await download(fetcher, server.url(), tmp_path)).path.read_bytes() == b"whole"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_over_the_limit_is_given_up(serve: Serve, tmp_path: Path, announced: bool) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        head = b"content-length: 500" if announced else b"connection: close"
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + bytes(500))

    server = await serve(handle)
    async with fetcher_of(499) as fetcher:
        with pytest.raises(BodyTooLarge, match="499"):
            await download(fetcher, server.url(), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_trickle_is_given_up(
    serve: Serve, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trickle(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(fetch, "SLOWEST", 1e9)
    async with Fetcher(allow_private=True, timeout=0.1) as impatient:
        with pytest.raises(SourceFailed, match="too slow"):
            await download(impatient, (await serve(trickle)).url(), tmp_path)


async def test_a_cancelled_download_leaves_nothing(serve: Serve, fetcher: Fetcher, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(MIB))
            await writer.drain()
            begun.set()

    downloading = asyncio.ensure_future(download(fetcher, (await serve(endless)).url(), tmp_path))
    await begun.wait()
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert list(tmp_path.iterdir()) == []


async def test_a_redirect_does_not_lead_to_a_private_address(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = await serve(answer(b"private"))
    outside = await serve(answer(status="302 Found", location=inside.url()))
    public = ["127.0.0.1"]

    async def resolver(host: str, port: int) -> tuple[str, ...]:
        return (public.pop(),) if public else ("10.0.0.1",)

    check = connect.check_address  # the first address counts as public: all of this machine's are private
    monkeypatch.setattr(
        connect, "check_address", lambda one, **options: one if one == "127.0.0.1" else check(one, **options)
    )
    async with Fetcher(resolver=resolver, tries=1) as guarded:
        with pytest.raises(SourceRefused, match="redirects to an address"):
            await download(guarded, outside.url(host="a.example"), tmp_path)
    assert inside.requests == []


async def test_proxies_of_the_environment_are_not_used(
    serve: Serve, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = await serve(answer(b"proxied")), await serve(answer(b"direct"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url(""))
    async with Fetcher(allow_private=True) as made:
        assert (await download(made, server.url(), tmp_path)).path.read_bytes() == b"direct"
    assert proxy.requests == []
