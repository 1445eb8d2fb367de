"""What WebSocket clients may send, and how fast."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from mien.connections.websocket import FRAMES_PER_SECOND, MAX_FRAGMENTS, MAX_MESSAGE_BYTES
from packages.mien.tests.integration.connections.conftest import Running
from testing.waiting import eventually

TOO_BIG, POLICY = 1009, 1008


@contextmanager
def connected(front: Running, *, compression: str | None = None) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{front.port}/"
    with connect(url, proxy=None, compression=compression, max_size=None) as websocket:  # type: ignore[arg-type]
        yield websocket


def closed_with(websocket: ClientConnection) -> int | None:
    """The code of the close frame, once there is nothing else to read."""
    while True:
        try:
            websocket.recv(timeout=20)
        except ConnectionClosedError as closed:
            return None if closed.rcvd is None else closed.rcvd.code


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_message_has_a_maximum_size_unpacked(front: Running, compression: str | None) -> None:
    with connected(front, compression=compression) as websocket:
        websocket.send("x" * MAX_MESSAGE_BYTES)
        assert websocket.recv() == "x" * MAX_MESSAGE_BYTES
        websocket.send("x" * (MAX_MESSAGE_BYTES + 1))
        assert closed_with(websocket) == TOO_BIG


def test_fragments_count_as_one_message(front: Running) -> None:
    with connected(front) as websocket:
        websocket.send(["x" * 100] * 5)
        assert websocket.recv() == "x" * 500
        with suppress(ConnectionClosedError):  # in the middle of the message
            websocket.send(["x" * 1000] * 5)
        assert closed_with(websocket) == TOO_BIG


@pytest.mark.parametrize("frame", ["messages", "fragments", "pings"])
def test_a_flood_of_small_frames_ends_the_connection(front: Running, frame: str) -> None:
    frames = {"messages": b"\x81\x80", "fragments": b"\x00\x80", "pings": b"\x89\x80"}[frame] + bytes(4)
    with connected(front) as websocket:
        first = b"\x01\x80" + bytes(4) if frame == "fragments" else b""
        try:
            websocket.socket.sendall(first + frames * 50_000)
        except OSError:
            return  # it was reset while it sent
        assert closed_with(websocket) in (POLICY, None)  # the frame may be lost with the connection
    eventually(lambda: front.open == 0)


def test_other_clients_are_served_during_a_flood(front: Running) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            try:
                with connected(front) as websocket:
                    websocket.socket.sendall((b"\x81\x80" + bytes(4)) * 50_000)
            except Exception:  # noqa: BLE001, S112 - it is refused, in one way or another
                continue

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        with connected(front) as websocket:
            for number in range(20):
                websocket.send(str(number))
                assert websocket.recv(timeout=20) == str(number)
    finally:
        over.set()
        flooding.join()


def test_empty_fragments_do_not_add_up_for_ever(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.connections.websocket.FRAMES_PER_SECOND", 10 * MAX_FRAGMENTS)
    with connected(front) as websocket:
        websocket.socket.sendall(b"\x01\x80" + bytes(4) + (b"\x00\x80" + bytes(4)) * (MAX_FRAGMENTS + 500))
        assert closed_with(websocket) == POLICY


def test_a_lively_client_is_none_of_these(front: Running) -> None:
    with connected(front) as websocket:
        for number in range(FRAMES_PER_SECOND // 4):
            websocket.send(str(number))
            assert websocket.recv() == str(number)


HANDSHAKE = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (b"POST", b""),
        (b"POST", b"Content-Length: 5\r\n"),
        (b"GET", b"Content-Length: 5\r\n"),
        (b"GET", b"Transfer-Encoding: chunked\r\n"),
        (b"GET", b"a: %s\r\n" % (b"v" * 10_000)),
        (b"GET", b"a: b\r\n" * 150),
    ],
    ids=["POST", "POST with a body", "body", "chunks", "long line", "many lines"],
)
def test_what_is_no_handshake_is_answered_and_closed(
    start: Callable[..., Running], method: bytes, fields: bytes
) -> None:
    front = start(max_headers=200)
    status, body = front.ask(b"%s / HTTP/1.1\r\n%s%s\r\n" % (method, HANDSHAKE, fields))
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")
    eventually(lambda: front.open == 0)


def test_those_who_send_no_handshake_lock_nobody_out(start: Callable[..., Running]) -> None:
    front = start(max_connections=4)
    request = b"GET / HTTP/1.1\r\n%sa: %s\r\n\r\n" % (HANDSHAKE, b"v" * 10_000)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(front.connect()).sendall(request)
        with connected(front) as websocket:
            websocket.send("x")
            assert websocket.recv(timeout=20) == "x"
