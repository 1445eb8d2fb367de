"""HTTPS by certificate files: handshakes under a deadline, and errors that name the file at fault."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from mien.connections.tls import server_context
from mien.errors import TlsInvalid
from mien.settings import Listening
from packages.mien.tests.integration.connections.conftest import Running, answer, read_all
from testing.tools import program
from testing.waiting import eventually


def openssl(*arguments: str | Path) -> None:
    subprocess.run([program("openssl"), *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost with its key, plain and encrypted, and what is mistaken for them."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("own", "other"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    openssl("pkcs8", "-topk8", "-in", folder / "own.key", "-out", folder / "locked.key", "-passout", "pass:sesame")
    (folder / "both.pem").write_text((folder / "own.pem").read_text() + (folder / "own.key").read_text())
    (folder / "password").write_text("sesame\n")
    (folder / "wrong").write_text("open\n")
    (folder / "empty").write_text("")
    (folder / "binary").write_bytes(b"\x30\x82\xff\x00")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "broken.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    return folder


def settings(files: Path, **named: str) -> Listening:
    return Listening.model_validate({f"tls_{name}": files / file for name, file in named.items()})


def trusting(files: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files / "own.pem"))


@pytest.fixture(scope="module")
def context(files: Path) -> ssl.SSLContext:
    made = server_context(settings(files, certificate="own.pem", key="own.key"))
    assert made is not None
    return made


@pytest.mark.parametrize(
    "named",
    [
        {"certificate": "own.pem", "key": "own.key"},
        {"certificate": "both.pem"},
        {"certificate": "own.pem", "key": "locked.key", "password_file": "password"},
    ],
)
def test_https_is_served(start: Callable[..., Running], files: Path, named: dict[str, str]) -> None:
    front = start(tls=server_context(settings(files, **named)))
    for name in ("localhost", "127.0.0.1"):
        with trusting(files).wrap_socket(front.connect(), server_hostname=name) as connection:
            connection.sendall(b"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert answer(connection) == (200, b"/hello")
    assert front.app.scopes[-1]["scheme"] == "https"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"certificate": "nowhere.pem"}, ["MIEN_TLS_CERTIFICATE", "nowhere.pem", "No such file"]),
        ({"certificate": "own.pem", "key": "nowhere.key"}, ["MIEN_TLS_KEY", "nowhere.key", "No such file"]),
        ({"certificate": "own.pem"}, ["MIEN_TLS_CERTIFICATE", "own.pem", "no private key", "MIEN_TLS_KEY"]),
        ({"certificate": "own.key", "key": "own.key"}, ["MIEN_TLS_CERTIFICATE", "own.key", "no certificate"]),
        ({"certificate": "binary", "key": "own.key"}, ["MIEN_TLS_CERTIFICATE", "binary", "PEM"]),
        ({"certificate": "broken.pem", "key": "own.key"}, ["MIEN_TLS_CERTIFICATE", "broken.pem", "no valid"]),
        ({"certificate": "own.pem", "key": "own.pem"}, ["MIEN_TLS_KEY", "own.pem", "no private key"]),
        ({"certificate": "own.pem", "key": "broken.key"}, ["MIEN_TLS_KEY", "broken.key", "cannot be used"]),
        ({"certificate": "own.pem", "key": "other.key"}, ["MIEN_TLS_KEY", "other.key", "does not belong", "own.pem"]),
        ({"certificate": "own.pem", "key": "locked.key"}, ["MIEN_TLS_KEY", "locked.key", "MIEN_TLS_PASSWORD_FILE"]),
        (
            {"certificate": "own.pem", "key": "locked.key", "password_file": "wrong"},
            ["MIEN_TLS_PASSWORD_FILE", "wrong", "does not decrypt", "locked.key"],
        ),
        (
            {"certificate": "own.pem", "key": "locked.key", "password_file": "empty"},
            ["MIEN_TLS_PASSWORD_FILE", "empty"],
        ),
        (
            {"certificate": "own.pem", "key": "locked.key", "password_file": "nowhere"},
            ["MIEN_TLS_PASSWORD_FILE", "nowhere", "No such file"],
        ),
        ({"key": "own.key"}, ["MIEN_TLS_KEY", "MIEN_TLS_CERTIFICATE is not"]),
    ],
)
def test_an_error_names_the_file_at_fault(files: Path, named: dict[str, str], words: list[str]) -> None:
    with pytest.raises(TlsInvalid) as raised:
        server_context(settings(files, **named))
    assert [word for word in words if word not in raised.value.message] == []
    assert "sesame" not in raised.value.message


def test_old_versions_of_tls_are_refused(start: Callable[..., Running], files: Path, context: ssl.SSLContext) -> None:
    front, old = start(tls=context), trusting(files)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with front.connect() as raw, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(raw, server_hostname="localhost")


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_does_not_end_is_cut_off(
    start: Callable[..., Running], context: ssl.SSLContext, hello: bytes
) -> None:
    front = start(tls=context, header_seconds=0.3)
    with front.connect() as connection:
        connection.sendall(hello)
        assert b"HTTP" not in read_all(connection)
    eventually(lambda: front.open == 0)


def test_handshakes_give_way_too(start: Callable[..., Running], files: Path, context: ssl.SSLContext) -> None:
    front = start(tls=context, max_connections=10)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(front.connect())
        with trusting(files).wrap_socket(front.connect(), server_hostname="localhost") as connection:
            connection.sendall(b"GET /new HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert answer(connection) == (200, b"/new")
        assert front.open <= 10


def test_limits_hold_below_tls(start: Callable[..., Running], files: Path, context: ssl.SSLContext) -> None:
    front = start(tls=context, stalled_seconds=0.3)
    with trusting(files).wrap_socket(front.connect(), server_hostname="localhost") as connection:
        connection.sendall(b"GET / HTTP/1.1\r\ncookie: %s\r\n\r\n" % (b"c" * 40_000))
        assert answer(connection)[0] == 431
    with trusting(files).wrap_socket(front.connect(), server_hostname="localhost") as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        eventually(lambda: front.ended("stalled") == 1)
        with contextlib.suppress(ssl.SSLError):
            assert len(read_all(connection)) < 16_000_000
    eventually(lambda: front.open == 0)


def test_a_large_body_and_answer_pass(start: Callable[..., Running], files: Path, context: ssl.SSLContext) -> None:
    front = start(tls=context)
    with trusting(files).wrap_socket(front.connect(), server_hostname="localhost") as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        received = b""
        while b'"bytes": 3000000' not in received:
            received += connection.recv(65536)
        connection.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert len(read_all(connection)) > 16_000_000


def test_websockets_are_encrypted(start: Callable[..., Running], files: Path, context: ssl.SSLContext) -> None:
    front = start(tls=context)
    with connect(f"wss://localhost:{front.port}/", ssl=trusting(files), proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
