"""TLS for gRPC: this node's certificate, and how the nodes that this server uses are verified.

gRPC reports unusable files only as a failed handshake, or not at all: they are checked here, and errors name the file
and the setting.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from mien.errors import TlsInvalid
from mien.settings import Nodes


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a node."""

    certificate: Path
    """The chain, the node's own first."""
    key: Path
    client_ca: Path | None = None
    """Clients need a certificate of one of these authorities."""

    @classmethod
    def from_settings(cls, nodes: Nodes) -> Self | None:
        """None: plain text. Raises TlsInvalid if a part is missing."""
        if nodes.grpc_tls_certificate is None and nodes.grpc_tls_key is None:
            if nodes.grpc_tls_client_ca is not None:
                raise TlsInvalid("MIEN_GRPC_TLS_CLIENT_CA needs MIEN_GRPC_TLS_CERTIFICATE and MIEN_GRPC_TLS_KEY")
            return None
        certificate, key = _pair(nodes.grpc_tls_certificate, nodes.grpc_tls_key, "MIEN_GRPC_TLS")
        return cls(certificate, key, nodes.grpc_tls_client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. Raises TlsInvalid."""
        pair = _read_pair(self.certificate, self.key, "MIEN_GRPC_TLS")
        authorities = None if self.client_ca is None else _authorities(self.client_ca, "MIEN_GRPC_TLS_CLIENT_CA")
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files for the connections to nodes."""

    ca: Path | None = None
    """Authorities of the nodes' certificates; those that gRPC ships if None."""
    certificate: Path | None = None
    """For nodes that ask for one, with its `key`."""
    key: Path | None = None

    @classmethod
    def from_settings(cls, nodes: Nodes) -> Self:
        """Raises TlsInvalid for a certificate without its key, or the other way round."""
        if nodes.node_tls_certificate is None and nodes.node_tls_key is None:
            return cls(nodes.node_tls_ca)
        return cls(nodes.node_tls_ca, *_pair(nodes.node_tls_certificate, nodes.node_tls_key, "MIEN_NODE_TLS"))

    def credentials(self) -> grpc.ChannelCredentials:
        """For `secure_channel`. Raises TlsInvalid."""
        authorities = None if self.ca is None else _authorities(self.ca, "MIEN_NODE_TLS_CA")
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(authorities)
        key, chain = _read_pair(self.certificate, self.key, "MIEN_NODE_TLS")
        return grpc.ssl_channel_credentials(authorities, key, chain)


def _pair(certificate: Path | None, key: Path | None, settings: str) -> tuple[Path, Path]:
    if certificate is None or key is None:
        given, missing = ("KEY", "CERTIFICATE") if certificate is None else ("CERTIFICATE", "KEY")
        raise TlsInvalid(f"{settings}_{given} needs {settings}_{missing}")
    return certificate, key


def _read_pair(certificate: Path, key: Path, settings: str) -> tuple[bytes, bytes]:
    """Private key and certificate chain, as gRPC wants them."""
    chain = _read(certificate, f"{settings}_CERTIFICATE")
    secret = _read(key, f"{settings}_KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted:
        raise TlsInvalid(f"{settings}_KEY: the key in {key} is encrypted; a key without a password is needed") from None
    except ssl.SSLError as error:
        raise TlsInvalid(
            f"{settings}_CERTIFICATE {certificate} and {settings}_KEY {key} are no certificate with its key: "
            f"{error.reason or error}"
        ) from None
    return secret, chain


def _authorities(path: Path, setting: str) -> bytes:
    data = _read(path, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsInvalid(f"{setting} {path}: no PEM certificates: {error.reason or error}") from None
    return data


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsInvalid(f"{setting} {path}: {error.strerror}") from None


class _Encrypted(Exception):
    pass


def _no_password() -> bytes:
    raise _Encrypted
