"""Fetching URLs: what is read, what is refused, what is tried again. Against real servers on this machine."""

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mien.errors import ImageError, ImageTooLarge, InvalidField, SourceFailed, SourceNotFound, SourceRefused
from mien.net.fetch import Fetcher
from mien.net.guard import check_address
from testing.tools import program
from testing.web import Request, Serve, Server, answer, in_turn, serving


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start


@pytest.fixture
async def fetcher_factory() -> AsyncIterator[Callable[..., Fetcher]]:
    made: list[Fetcher] = []

    def make(**options: Any) -> Fetcher:
        made.append(Fetcher(**{"allow_private": True, "timeout": 5.0, "tries": 1, "max_bytes": 1000, **options}))
        return made[-1]

    yield make
    for fetcher in made:
        await fetcher.aclose()


Make = Callable[..., Fetcher]


async def test_the_body_is_returned(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"image"))
    assert await fetcher_factory().fetch(server.url("/a%20b.jpg?x=1#part")) == b"image"
    assert server.requests[0].target == "/a%20b.jpg?x=1"
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_headers_of_the_server_and_the_caller_are_sent_and_the_callers_win(
    serve: Serve, fetcher_factory: Make
) -> None:
    server = await serve(answer())
    fetcher = fetcher_factory(headers={"X-A": "server", "X-B": "server"})
    await fetcher.fetch(server.url(), {"x-a": "caller"})
    sent = server.requests[0].headers
    assert (sent["x-a"], sent["x-b"], sent["host"]) == ("caller", "server", f"127.0.0.1:{server.port}")


async def test_headers_of_an_origin_are_sent_to_no_other(serve: Serve, fetcher_factory: Make) -> None:
    known, stranger = await serve(answer()), await serve(answer())
    to_stranger = await serve(answer(b"", "302 Found", location=stranger.url()))
    headers = {known.url(""): {"Authorization": "hush"}, to_stranger.url(""): {"Cookie": "hush"}, "X-All": "all"}
    fetcher = fetcher_factory(headers=headers)
    for server in (known, stranger, to_stranger):
        await fetcher.fetch(server.url())
    await fetcher.fetch(known.url(), {"Authorization": "caller"})
    assert [request.headers.get("authorization") for request in known.requests] == ["hush", "caller"]
    assert [request.headers.get("cookie") for request in to_stranger.requests] == ["hush"]
    for request in stranger.requests:
        assert not {"authorization", "cookie"} & set(request.headers)
    assert [request.headers.get("x-all") for request in stranger.requests] == ["all", None]


async def test_wrong_headers_are_refused_before_anything_is_sent(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer())
    with pytest.raises(InvalidField):
        await fetcher_factory().fetch(server.url(), {"X": "a\r\nb"})
    assert not server.requests


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "a.jpg",
        "",
        "http://",
        "http:///a",
        "data:image/png;base64,AAAA",
        "http://user:secret@example.com/",
        "http://example.com@127.0.0.1/",
        "gopher://127.0.0.1:25/",
        "http://[::1",
        "http://exa mple/",
        "http://example.com:99999/",
        "http://a\r\nb/",
        "http://" + "a" * 9000,
    ],
)
async def test_urls_that_are_not_plain_http_are_refused(fetcher_factory: Make, url: str) -> None:
    with pytest.raises(SourceRefused) as caught:
        await fetcher_factory().fetch(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_private_hosts_are_refused_however_they_are_spelt_and_whether_or_not_the_port_is_open(
    serve: Serve, fetcher_factory: Make, host: str
) -> None:
    server = await serve(answer())
    fetcher = fetcher_factory(allow_private=False)
    messages = set()
    for url in (server.url(host=host), f"http://{host}:1/a.jpg"):
        with pytest.raises(ImageError) as caught:
            await fetcher.fetch(url)
        assert isinstance(caught.value, SourceRefused | SourceFailed)
        messages.add(caught.value.message.replace(f":{server.port}", "").replace(":1/", "/"))
    assert len(messages) == 1
    assert not server.requests


async def test_a_host_with_one_private_address_among_public_ones_is_refused(
    serve: Serve, fetcher_factory: Make
) -> None:
    server = await serve(answer())

    async def resolver(host: str, port: int) -> tuple[str, ...]:
        return "8.8.8.8", "127.0.0.1"

    with pytest.raises(SourceRefused) as caught:
        await fetcher_factory(allow_private=False, resolver=resolver).fetch(server.url(host="evil.example"))
    assert "127.0.0.1" not in caught.value.message
    assert not server.requests


async def test_a_name_that_resolves_differently_the_second_time_is_resolved_once_only(
    serve: Serve, fetcher_factory: Make
) -> None:
    server = await serve(answer())
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("8.8.8.8",)

    assert await fetcher_factory(resolver=rebinding).fetch(server.url(host="rebind.example")) == b"image"
    assert asked == ["rebind.example"]
    assert server.requests[0].headers["host"] == f"rebind.example:{server.port}"


async def test_redirects_are_followed_five_times(serve: Serve, fetcher_factory: Make) -> None:
    async def count_down(request: Request, writer: asyncio.StreamWriter) -> None:
        left = int(request.target[1:])
        handler = answer(b"", "302 Found", location=f"/{left - 1}") if left else answer(b"there")
        await handler(request, writer)

    server = await serve(count_down)
    assert await fetcher_factory().fetch(server.url("/5")) == b"there"
    with pytest.raises(SourceFailed, match="more than 5 times"):
        await fetcher_factory().fetch(server.url("/6"))


async def test_a_redirect_to_a_private_address_is_refused_without_naming_it(
    serve: Serve, fetcher_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = await serve(answer(b"secret"))
    outer = await serve(answer(b"", "302 Found", location=inner.url("/inner", host="inner.example")))

    async def resolver(host: str, port: int) -> tuple[str, ...]:
        return ("127.0.0.1",) if host == "public.example" else ("10.0.0.1",)

    def the_outer_one_counts_as_public(address: str, *, allow_private: bool) -> object:
        return address if address == "127.0.0.1" else check_address(address, allow_private=allow_private)

    monkeypatch.setattr("mien.net.connect.check_address", the_outer_one_counts_as_public)
    fetcher = fetcher_factory(allow_private=False, resolver=resolver)
    with pytest.raises(SourceRefused, match="redirects to an address") as caught:
        await fetcher.fetch(outer.url(host="public.example"))
    assert "10.0.0.1" not in caught.value.message
    assert "inner" not in caught.value.message
    assert len(outer.requests) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://u:p@x/"])
async def test_redirects_to_other_schemes_are_refused(serve: Serve, fetcher_factory: Make, location: str) -> None:
    server = await serve(answer(b"", "302 Found", location=location))
    with pytest.raises(SourceRefused):
        await fetcher_factory().fetch(server.url())


async def test_headers_are_not_sent_on_to_another_origin(serve: Serve, fetcher_factory: Make) -> None:
    other = await serve(answer())
    server = await serve(
        in_turn(answer(b"", "302 Found", location="/same"), answer(b"", "307 x", location=other.url()))
    )
    fetcher = fetcher_factory(headers={"Authorization": "Bearer s"})
    await fetcher.fetch(server.url(), {"Cookie": "c", "X-Own": "o"})
    same = server.requests[1].headers
    assert (same["authorization"], same["cookie"], same["x-own"]) == ("Bearer s", "c", "o")
    assert not {"authorization", "cookie", "x-own"} & other.requests[0].headers.keys()


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
async def test_what_does_not_exist_is_not_tried_again(serve: Serve, fetcher_factory: Make, status: str) -> None:
    server = await serve(answer(b"", status))
    with pytest.raises(SourceNotFound):
        await fetcher_factory(tries=3).fetch(server.url())
    assert len(server.requests) == 1


async def test_a_refusal_is_not_tried_again_and_errors_hide_the_query(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"", "403 Forbidden"))
    with pytest.raises(SourceFailed, match="HTTP 403") as caught:
        await fetcher_factory(tries=3).fetch(server.url("/a?token=secret"))
    assert "secret" not in caught.value.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["500 x", "503 x", "429 x"])
async def test_what_can_pass_is_tried_again(serve: Serve, fetcher_factory: Make, status: str) -> None:
    server = await serve(in_turn(answer(b"", status, retry_after="0"), answer(b"", status, retry_after="0"), answer()))
    assert await fetcher_factory(tries=3).fetch(server.url()) == b"image"
    assert len(server.requests) == 3


async def test_tries_end(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"", "500 x", retry_after="0"))
    with pytest.raises(SourceFailed, match=r"HTTP 500 \(2 tries\)"):
        await fetcher_factory(tries=2).fetch(server.url())
    assert len(server.requests) == 2


async def test_a_broken_off_answer_is_tried_again(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(in_turn(answer(b"half", content_length="100"), answer()))
    assert await fetcher_factory(tries=2).fetch(server.url()) == b"image"


async def test_a_body_shorter_than_promised_is_a_failure(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"half", content_length="100"))
    with pytest.raises(SourceFailed, match="broke off"):
        await fetcher_factory().fetch(server.url())


async def test_a_closed_port_is_a_failure(fetcher_factory: Make) -> None:
    with pytest.raises(SourceFailed, match="cannot be connected to"):
        await fetcher_factory().fetch("http://127.0.0.1:1/")


async def test_an_unknown_host_is_a_failure(fetcher_factory: Make) -> None:
    async def nothing(host: str, port: int) -> tuple[str, ...]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.raises(SourceFailed, match="cannot be found"):
        await fetcher_factory(resolver=nothing).fetch("http://nowhere.example/")


async def test_an_answer_that_is_not_http_is_a_failure(serve: Serve, fetcher_factory: Make) -> None:
    async def talk(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")

    server = await serve(talk)
    with pytest.raises(SourceFailed) as caught:
        await fetcher_factory().fetch(server.url())
    assert "ESMTP" not in caught.value.message


async def test_a_length_over_the_limit_is_refused_before_the_body(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"x", content_length="1001"))
    with pytest.raises(ImageTooLarge):
        await fetcher_factory().fetch(server.url())


async def test_an_endless_body_is_cut_at_the_limit(serve: Serve, fetcher_factory: Make) -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100_000):
            writer.write(b"x" * 1000)
            await writer.drain()

    server = await serve(endless)
    started = time.monotonic()
    with pytest.raises(ImageTooLarge):
        await fetcher_factory().fetch(server.url())
    assert time.monotonic() - started < 10


async def test_a_dripping_body_ends_at_the_deadline(serve: Serve, fetcher_factory: Make) -> None:
    async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        for _ in range(900):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    server = await serve(drip)
    started = time.monotonic()
    with pytest.raises(SourceFailed, match=r"longer than 0\.3 s"):
        await fetcher_factory(timeout=0.3, tries=5).fetch(server.url())
    assert time.monotonic() - started < 10


async def test_compressed_answers_are_refused(serve: Serve, fetcher_factory: Make) -> None:
    server = await serve(answer(b"x", content_encoding="gzip"))
    with pytest.raises(SourceFailed, match="gzip"):
        await fetcher_factory().fetch(server.url())


async def test_no_more_than_so_many_are_fetched_at_once(serve: Serve, fetcher_factory: Make) -> None:
    now = most = 0

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await answer()(request, writer)

    server = await serve(slow)
    fetcher = fetcher_factory(concurrency=2)
    assert await asyncio.gather(*(fetcher.fetch(server.url()) for _ in range(8))) == [b"image"] * 8
    assert most == 2


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for good.example, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        f"{program('openssl')} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN=good.example -addext subjectAltName=DNS:good.example -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


@pytest.fixture
async def tls_server(serve: Serve, certificate: tuple[Path, Path]) -> Server:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return await serve(answer(), context)


async def here(host: str, port: int) -> tuple[str, ...]:
    return ("127.0.0.1",)


async def test_a_self_signed_certificate_is_refused(tls_server: Server, fetcher_factory: Make) -> None:
    with pytest.raises(SourceFailed, match="certificate"):
        await fetcher_factory(resolver=here, tries=3).fetch(tls_server.url(host="good.example", scheme="https"))
    assert not tls_server.requests


async def test_certificates_are_checked_against_the_hosts_name_not_its_address(
    tls_server: Server, certificate: tuple[Path, Path], fetcher_factory: Make
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    fetcher = fetcher_factory(resolver=here, ssl_context=trusting)
    assert await fetcher.fetch(tls_server.url(host="good.example", scheme="https")) == b"image"
    with pytest.raises(SourceFailed, match="certificate"):
        await fetcher.fetch(tls_server.url(host="other.example", scheme="https"))
