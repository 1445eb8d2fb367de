"""Files of TLS that cannot be used are named when the server starts, not when a handshake fails."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.errors import InvalidSettings, TlsInvalid
from mien.nodes.discovery import Announcement
from mien.nodes.pool import NodePool, split_address
from mien.nodes.tls import ClientTls, ServerTls
from mien.settings import Settings
from testing.tools import program


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.pem` with `a.key`, `b.pem` with `b.key`, and `locked.key`, which is `a.key` with a password."""
    folder = tmp_path_factory.mktemp("pki")

    def run(*arguments: str) -> None:
        subprocess.run([program("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("a", "b"):
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        run("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    run("ec", "-in", "a.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    (folder / "text.pem").write_text("no certificate")
    return folder


def server(**files: Path) -> Any:
    tls = ServerTls.from_settings(Settings(**{f"grpc_tls_{name}": path for name, path in files.items()}).nodes)
    return None if tls is None else tls.credentials()


def client(**files: Path) -> Any:
    nodes = Settings(**{f"node_tls_{name}": path for name, path in files.items()}).nodes
    return ClientTls.from_settings(nodes).credentials()


def test_files_that_fit_are_used(pki: Path) -> None:
    assert server() is None
    assert server(certificate=pki / "a.pem", key=pki / "a.key")
    assert server(certificate=pki / "a.pem", key=pki / "a.key", client_ca=pki / "b.pem")
    assert client()
    assert client(ca=pki / "a.pem", certificate=pki / "b.pem", key=pki / "b.key")


@pytest.mark.parametrize(
    ("made", "files", "words"),
    [
        (server, {"certificate": "a.pem"}, "MIEN_GRPC_TLS_CERTIFICATE needs MIEN_GRPC_TLS_KEY"),
        (server, {"key": "a.key"}, "MIEN_GRPC_TLS_KEY needs MIEN_GRPC_TLS_CERTIFICATE"),
        (server, {"client_ca": "a.pem"}, "MIEN_GRPC_TLS_CLIENT_CA needs"),
        (server, {"certificate": "gone.pem", "key": "a.key"}, r"CERTIFICATE .*gone\.pem: No such file"),
        (server, {"certificate": "a.pem", "key": "gone.key"}, r"MIEN_GRPC_TLS_KEY .*gone\.key: No such file"),
        (server, {"certificate": "a.pem", "key": "b.key"}, r"a\.pem and .*b\.key are no certificate with its key"),
        (server, {"certificate": "text.pem", "key": "a.key"}, r"text\.pem and .*are no certificate with its key"),
        (server, {"certificate": "a.pem", "key": "locked.key"}, r"locked\.key is encrypted"),
        (server, {"certificate": "a.pem", "key": "a.key", "client_ca": "text.pem"}, r"CLIENT_CA .*no PEM certificates"),
        (client, {"ca": "gone.pem"}, r"MIEN_NODE_TLS_CA .*gone\.pem: No such file"),
        (client, {"ca": "text.pem"}, r"MIEN_NODE_TLS_CA .*no PEM certificates"),
        (client, {"key": "a.key"}, "MIEN_NODE_TLS_KEY needs MIEN_NODE_TLS_CERTIFICATE"),
        (client, {"certificate": "a.pem", "key": "b.key"}, "are no certificate with its key"),
    ],
)
def test_files_that_do_not_fit_are_named(
    pki: Path, made: Callable[..., Any], files: dict[str, str], words: str
) -> None:
    with pytest.raises(TlsInvalid, match=words):
        made(**{name: pki / file for name, file in files.items()})


def test_a_pool_does_not_start_with_them(pki: Path) -> None:
    with pytest.raises(TlsInvalid, match="gone"):
        NodePool.from_settings(Settings(node_tls_ca=pki / "gone.pem").nodes)


def test_an_address_says_whether_its_node_is_reached_by_tls() -> None:
    assert Settings(nodes="a:1,grpc://b:2,grpcs://c:3").nodes.nodes == ("a:1", "grpc://b:2", "grpcs://c:3")
    assert split_address("a:1") == split_address("grpc://a:1") == (False, "a:1")
    assert split_address("grpcs://[::1]:3") == (True, "[::1]:3")
    with pytest.raises(InvalidSettings, match="grpcs://host:port for TLS"):
        Settings(nodes="https://c:3")


def test_an_announcement_says_whether_its_node_is_reached_by_tls() -> None:
    plain, secure = (
        Announcement(1, [], "none", "127.0.0.1", is_secure=is_secure).info("0" * 36).decoded_properties
        for is_secure in (False, True)
    )
    assert "tls" not in plain
    assert secure["tls"] == "1"
