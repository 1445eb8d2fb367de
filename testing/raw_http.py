"""Requests that no HTTP client would send: bytes of the test's own over a socket."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def raw_connection(server: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass  # the server closed while we were still sending
    return int(received.split(b" ", 2)[1]), received.partition(b"\r\n\r\n")[2]
