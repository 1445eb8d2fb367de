"""Thousands of connections that send nothing, or never finish, on real servers."""

import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from testing.raw_http import answer_of, raw_connection
from testing.waiting import eventually

MANY = 2000
FEW_DESCRIPTORS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024))
import mien.__main__
"""
OPENINGS = {
    "silent": b"",
    "half a head": b"GET / HTTP/1.1\r\nx: ",
    "half a body": b"POST /extract HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    "idle": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    """This process needs many, too."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], MANY + 1000), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def cramped(serve_module: Any, light: dict[str, str]) -> Any:
    """A server that may open 1,024 files, of which it uses 512 unless it raises its own limit."""
    return serve_module(program=("-c", FEW_DESCRIPTORS), **light)


def crowd(stack: ExitStack, server: Any, opening: bytes, count: int) -> None:
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        with contextlib.suppress(OSError):  # it has given way already
            connection.sendall(opening)


def status_of(server: Any, path: bytes) -> int:
    """On a connection of its own."""
    with raw_connection(server) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
        return answer_of(connection)[0]


@pytest.mark.parametrize("opening", ["silent", "half a head", "idle"])
def test_two_thousand_silent_connections_hold_up_nobody(server: Any, opening: str) -> None:
    before = server.rss_mb()
    with ExitStack() as stack:
        crowd(stack, server, OPENINGS[opening], MANY)
        for path in (b"/livez", b"/readyz", b"/info") * 5:
            assert status_of(server, path) == 200
        assert server.metric("mien_http_connections") > MANY
        assert server.rss_mb() - before < 60


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_server_with_few_descriptors_serves_whoever_sends_something(cramped: Any, opening: str) -> None:
    with ExitStack() as stack:
        crowd(stack, cramped, OPENINGS[opening], MANY)
        for _ in range(5):
            assert status_of(cramped, b"/livez") == 200
            assert status_of(cramped, b"/readyz") == 200
        if opening != "half a body":  # those wait 5 s before they give way
            assert status_of(cramped, b"/info") == 200
        assert psutil.Process(cramped.process.pid).num_fds() > 512, "it has raised its own limit"


def test_an_address_of_ipv6_is_logged_as_a_url(serve: Callable[..., Any], light: dict[str, str]) -> None:
    started = serve("--host", "::1", ready=False, **light)
    log = eventually(lambda: started.log if '"listening"' in started.log else "")
    assert f'"url": "http://[::1]:{started.port}"' in log
