"""Connections that wait for their clients end, give way, and never take the place of liveness and readiness."""

import contextlib
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from mien.connections.limits import RESERVED_CONNECTIONS, ConnectionLimits
from mien.errors import CannotListen
from mien.settings import Listening
from packages.mien.tests.integration.connections.conftest import Running, answer, read_all
from testing.waiting import eventually

PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_a_silent_connection_is_closed_without_a_word(start: Callable[..., Running]) -> None:
    front = start(header_seconds=0.2)
    with front.connect() as connection:
        assert read_all(connection) == b""
    assert front.ended("headers_too_slow") == 1


@pytest.mark.parametrize("drip", [b"", b"a"], ids=["stops", "drips"])
def test_half_a_head_is_a_408(start: Callable[..., Running], drip: bytes) -> None:
    front = start(header_seconds=0.3)
    with front.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        connection.settimeout(0.02)
        received = b""
        for _ in range(1000):
            with contextlib.suppress(TimeoutError, OSError):
                connection.sendall(drip)
                received = connection.recv(65536)
            if received:
                break
    assert received.startswith(b"HTTP/1.1 408")
    assert b"0.3 s" in received


def test_the_next_head_on_a_connection_has_the_same_time(start: Callable[..., Running]) -> None:
    front = start(header_seconds=0.3)
    with front.connect() as connection:
        connection.sendall(b"GET /first HTTP/1.1\r\n\r\n")
        assert connection.recv(65536).endswith(b"/first")
        connection.sendall(b"GET /sec")
        assert answer(connection)[0] == 408


def test_an_idle_connection_is_closed_after_the_keep_alive_time(start: Callable[..., Running]) -> None:
    front = start(keep_alive_seconds=0.2, header_seconds=20)
    with front.connect() as connection:
        connection.sendall(b"GET /first HTTP/1.1\r\n\r\n")
        assert read_all(connection).endswith(b"/first")
    assert front.ended("idle") == 1


def test_a_body_that_nobody_reads_has_to_end(start: Callable[..., Running]) -> None:
    front = start(header_seconds=0.3)
    with front.connect() as connection:
        connection.sendall(b"POST /refused HTTP/1.1\r\nContent-Length: 100000000\r\n\r\nx")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"x")
                connection.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        break
            else:
                pytest.fail("the server read on")


@pytest.mark.parametrize("head", [b"GET /large HTTP/1.1\r\n\r\n", b"GET /large HTTP/1.0\r\n\r\n"])
def test_a_client_that_reads_nothing_is_cut_off(start: Callable[..., Running], head: bytes) -> None:
    front = start(stalled_seconds=0.3)
    with front.connect() as connection:
        connection.sendall(head)
        eventually(lambda: front.ended("stalled") == 1)
        assert len(read_all(connection)) < 16_000_000
    eventually(lambda: front.open == 0)


def test_a_client_that_reads_slowly_is_not(start: Callable[..., Running]) -> None:
    front = start(stalled_seconds=1)
    with front.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert len(read_all(connection)) > 16_000_000
    assert front.ended("stalled") == 0


@pytest.mark.parametrize(
    "opening", [b"", b"GET / HTTP/1.1\r\nx", b"GET /done HTTP/1.1\r\n\r\n"], ids=["silent", "half", "idle"]
)
def test_those_that_wait_give_way_to_new_ones(start: Callable[..., Running], opening: bytes) -> None:
    front = start(max_connections=20)
    with ExitStack() as stack:
        connections = [stack.enter_context(front.connect()) for _ in range(60)]
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(opening)
        for _ in range(3):
            assert front.ask(b"GET /new HTTP/1.1\r\nConnection: close\r\n\r\n") == (200, b"/new")
        assert front.open <= 20
        assert front.ended("gave_way") >= 30


def test_if_all_work_only_probes_are_answered(start: Callable[..., Running]) -> None:
    front = start(max_connections=5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(front.connect()).sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        eventually(lambda: len(front.app.scopes) == 5)
        for _ in range(2 * RESERVED_CONNECTIONS):
            stack.enter_context(front.connect())
        assert front.ask(PROBE) == (200, b"/livez")
        status, body = front.ask(b"GET /other HTTP/1.1\r\n\r\n")
        assert status == 503
        assert b"MIEN_MAX_CONNECTIONS" in body
        assert front.ask(PROBE.replace(b"livez", b"readyz")) == (200, b"/readyz")
        front.app.released.set()
    eventually(lambda: front.ask(b"GET /other HTTP/1.1\r\nConnection: close\r\n\r\n") == (200, b"/other"))


def test_bodies_that_have_stopped_give_way(start: Callable[..., Running]) -> None:
    front = start(max_connections=5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(front.connect()).sendall(b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
        eventually(lambda: len(front.app.scopes) == 5)
        eventually(lambda: front.ask(b"GET /new HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 200, every=0.5)


def test_more_connections_than_descriptors_are_refused_at_the_start() -> None:
    with pytest.raises(CannotListen, match=r"MIEN_MAX_CONNECTIONS is 2000000000.*ulimit -n"):
        ConnectionLimits.from_settings(Listening(max_connections=2_000_000_000))
