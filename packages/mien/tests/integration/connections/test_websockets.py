"""What WebSocket clients may send, and how fast."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
