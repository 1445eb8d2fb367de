"""What comes before a body has limits, on every kind of connection and however it is cut into pieces."""

import json
import socket
from collections.abc import Callable

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from packages.mien.tests.integration.connections.conftest import Running, answer, read_all
from testing.waiting import eventually

HOST = b"Host: localhost\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def code_of(body: bytes) -> str:
    code: str = json.loads(body)["error"]["code"]
    return code


@pytest.mark.parametrize(
    ("first", "endless", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\na: ", b"a" * 10_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n", b"a" * 10_000, 431, "headers_too_large"),
        (b"GET /", b"a" * 10_000, 414, "url_too_long"),
        (b"GET /?", b"a" * 10_000, 414, "url_too_long"),
        (b"GET / HTTP/1.0\r\n", b"a: b\r\n" * 1000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + UPGRADE, b"a: b\r\n" * 1000, 431, "headers_too_large"),
        (b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\n", b"a: b\r\n" * 1000, 431, "headers_too_large"),
        (b"", b"A" * 10_000, 400, "bad_request"),
        (b"", b"\r\n" * 5000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\na: b\r\n", b" c\r\n" * 2500, 400, "bad_request"),
        (b"GET / HTTP/1.1\na: b\n", b"c: d\n" * 2500, 400, "bad_request"),
        (CHUNKED + b"1", b";a" * 5000, 400, "bad_request"),
        (CHUNKED, b"1;%s\r\nx\r\n" % (b"a" * 5000), 400, "bad_request"),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 1000, 431, "headers_too_large"),
        (CHUNKED + b"0\r\na: ", b"a" * 10_000, 400, "bad_request"),
    ],
    ids=[
        "header lines", "one value", "one name", "path", "query", "http/1.0", "websocket", "expect", "method",
        "empty lines", "folded", "bare LF", "chunk extension", "chunk extensions", "trailers", "one trailer",
    ],
)  # fmt: skip
def test_what_never_ends_is_refused(front: Running, first: bytes, endless: bytes, status: int, code: str) -> None:
    with front.connect() as connection:
        sent = 0
        try:
            connection.sendall(first)
            while sent < 20_000_000:
                connection.sendall(endless)
                sent += len(endless)
        except (BrokenPipeError, ConnectionResetError):
            pass
        found, body = answer(connection)
    assert sent < 20_000_000, "the server read on"
    if found:  # a client that sends on may lose the answer with the connection
        assert (found, code_of(body)) == (status, code)


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /%s HTTP/1.1\r\n%s" % (b"u" * 8191, HOST), 200),
        (b"GET /%s HTTP/1.1\r\n%s" % (b"u" * 8192, HOST), 414),
        (b"GET / HTTP/1.1\r\n%s" % HOST + b"a: b\r\n" * 98, 200),
        (b"GET / HTTP/1.1\r\n%s" % HOST + b"a: b\r\n" * 99, 200),
        (b"GET / HTTP/1.1\r\n%s" % HOST + b"a: b\r\n" * 100, 431),
        (b"GET / HTTP/1.1\r\n%sa: %s\r\n" % (HOST, b"v" * 32_000), 200),
        (b"GET / HTTP/1.1\r\n%sa: %s\r\n" % (HOST, b"v" * 32_768), 431),
    ],
)
def test_the_limits_are_exact_in_pieces_of_any_size(front: Running, head: bytes, status: int, piece: int) -> None:
    whole = head + b"Connection: close\r\n\r\n" if status != 200 or head.count(b"\r\n") < 100 else head + b"\r\n"
    with front.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start in range(0, len(whole), piece):
                connection.sendall(whole[start : start + piece])
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        assert answer(connection)[0] == status


def test_an_honest_client_reads_why_it_was_refused(front: Running) -> None:
    status, body = front.ask(b"GET / HTTP/1.1\r\n%scookie: %s\r\n\r\n" % (HOST, b"c" * 40_000))
    assert (status, code_of(body)) == (431, "headers_too_large")
    assert "100 lines or 32768 bytes" in json.loads(body)["message"]
    status, body = front.ask(b"GET /%s HTTP/1.1\r\n\r\n" % (b"u" * 9000))
    assert (status, code_of(body)) == (414, "url_too_long")
    assert "8192 bytes" in json.loads(body)["message"]


@pytest.mark.parametrize(
    "request_line", [b"PRI * HTTP/2.0\r\n\r\nSM", b"GET", b"GET / HTTP/3.7", b"CONNECT x HTTP/1.1", b"\x16\x03\x01"]
)
def test_what_is_no_request_is_a_400_that_says_so(front: Running, request_line: bytes) -> None:
    status, body = front.ask(request_line + b"\r\n\r\n")
    assert (status, code_of(body)) == (400, "bad_request")


def test_a_large_body_right_behind_a_head_in_pieces_is_no_head(front: Running) -> None:
    with front.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConn")
        connection.sendall(b"ection: close\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        status, body = answer(connection)
    assert (status, json.loads(body)["bytes"]) == (200, 3_000_000)


def test_small_chunks_and_a_trailer_are_read(front: Running) -> None:
    status, body = front.ask(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 100_000
        + b"0\r\nAuthorization: Bearer x\r\n\r\n"
    )
    assert (status, json.loads(body)) == (200, {"bytes": 100_000, "headers": 3}), "the trailer is no header"


def test_a_large_body_of_small_chunks_is_read_and_one_of_tiny_chunks_is_not(front: Running) -> None:
    lines = b"14\r\n%b\r\n" % (b"x" * 20) * 200_000
    status, body = front.ask(CHUNKED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + lines + b"0\r\n\r\n")
    assert (status, json.loads(body)["bytes"]) == (200, 4_000_000)
    status, body = front.ask(CHUNKED + b"1\r\nx\r\n" * 400_000)
    assert (status, json.loads(body)["message"]) == (400, "the chunks of the body have more framing than content")


def test_pipelined_requests_are_answered_in_order(front: Running) -> None:
    last = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"
    with front.connect() as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(20)) + last)
        received = read_all(connection)
    assert [part.split(b"\r\n")[0].removesuffix(b"HTTP/1.1 200 OK") for part in received.split(b"\r\n\r\n")[1:]] == [
        *(b"/%d" % number for number in range(20)),
        b"/last",
    ]


def test_a_refusal_waits_for_the_answers_before_it(front: Running) -> None:
    with front.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n\r\nGET /%s HTTP/1.1\r\n\r\n" % (b"u" * 9000))
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        front.app.released.set()
        received = read_all(connection)
        front.app.released.clear()
    assert received.startswith(b"HTTP/1.1 200")
    assert received.count(b"HTTP/1.1 414") == 1


def test_requests_beyond_those_that_may_wait_are_not_read(front: Running) -> None:
    with front.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n\r\n" + b"GET /next HTTP/1.1\r\n\r\n" * 3000)
        front.app.released.set()
        received = read_all(connection)
        front.app.released.clear()
    assert 1 <= received.count(b"/next") <= 64


def test_a_body_with_broken_chunks_is_refused_and_its_reader_ends(front: Running) -> None:
    before = front.app.disconnects
    status, body = front.ask(CHUNKED + b"1\r\nx\r\nzz\r\n")
    assert (status, code_of(body)) == (400, "bad_request")
    eventually(lambda: front.app.disconnects == before + 1)


def test_websockets_work_and_have_the_same_limits(front: Running) -> None:
    with connect(f"ws://127.0.0.1:{front.port}/", proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{front.port}/", proxy=None, additional_headers={"x": "y" * 40_000})
    assert refused.value.response.status_code == 431


def test_an_upgrade_behind_a_running_request_is_refused_after_it(front: Running) -> None:
    with front.connect() as connection:
        connection.sendall(
            b"GET /wait HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        front.app.released.set()
        received = read_all(connection)
        front.app.released.clear()
    assert received.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in received


def test_limits_are_settings(start: Callable[..., Running]) -> None:
    small = start(max_url_bytes=256, max_headers=16, max_header_bytes=1024)
    assert small.ask(b"GET /%s HTTP/1.1\r\n\r\n" % (b"u" * 256))[0] == 414
    assert small.ask(b"GET / HTTP/1.1\r\n%s\r\n" % (b"a: b\r\n" * 17))[0] == 431
    assert small.ask(b"GET / HTTP/1.1\r\na: %s\r\n\r\n" % (b"a" * 1024))[0] == 431


def test_another_upgrade_is_answered_as_if_it_were_not_there_and_ends_the_connection(front: Running) -> None:
    status, body = front.ask(
        b"GET /plain HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\n\r\n"
    )
    assert (status, body) == (200, b"/plain")
