"""TLS: certificate files, and the handshake as part of the connection's deadline."""

import asyncio
import ssl
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog

from mien.connections.http import HttpProtocol
from mien.connections.table import Admitted, ConnectionTable
from mien.errors import TlsInvalid
from mien.settings import Listening

log = structlog.get_logger()
SHUTDOWN_SECONDS = 5.0
"""For a client to confirm the end of the TLS connection."""


def server_context(listening: Listening) -> ssl.SSLContext | None:
    """The context for MIEN_TLS_CERTIFICATE; None without one. Raises TlsInvalid, which names the file at fault."""
    if listening.tls_certificate is None:
        lone = next((name for name in ("tls_key", "tls_password_file") if getattr(listening, name) is not None), None)
        if lone is not None:
            raise TlsInvalid(f"MIEN_{lone.upper()} is set, but MIEN_TLS_CERTIFICATE is not")
        return None
    certificate, key = listening.tls_certificate, listening.tls_key or listening.tls_certificate
    key_setting = "MIEN_TLS_KEY" if listening.tls_key else "MIEN_TLS_CERTIFICATE"
    chain = _read("MIEN_TLS_CERTIFICATE", certificate)
    _check_certificate(certificate, chain)
    key_text = chain if key == certificate else _read(key_setting, key)
    if "PRIVATE KEY-----" not in key_text:
        hint = "" if listening.tls_key else "; set MIEN_TLS_KEY if it is in a file of its own"
        raise TlsInvalid(f"{key_setting}: {key} has no private key in PEM format{hint}")
    encrypted = "ENCRYPTED" in key_text
    if encrypted and listening.tls_password_file is None:
        raise TlsInvalid(f"{key_setting}: the key in {key} is encrypted; set MIEN_TLS_PASSWORD_FILE")
    password = _password(listening.tls_password_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Always with a password: OpenSSL would otherwise ask for it on the terminal.
        context.load_cert_chain(certificate, key, password=password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsInvalid(
                f"{key_setting}: the key in {key} does not belong to the certificate in {certificate}"
            ) from error
        if encrypted:
            raise TlsInvalid(
                f"MIEN_TLS_PASSWORD_FILE: the password in {listening.tls_password_file} does not decrypt {key}"
            ) from error
        raise TlsInvalid(f"{key_setting}: the key in {key} cannot be used: {reason}") from error
    return context


def _check_certificate(path: Path, text: str) -> None:
    """Raises TlsInvalid. Separately from its key, since OpenSSL does not say which of the two is wrong."""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise TlsInvalid(f"MIEN_TLS_CERTIFICATE: {path} has no certificate in PEM format")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise TlsInvalid(f"MIEN_TLS_CERTIFICATE: {path} has no valid certificate") from error


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    lines = _read("MIEN_TLS_PASSWORD_FILE", path).splitlines()
    if not lines or not lines[0]:
        raise TlsInvalid(f"MIEN_TLS_PASSWORD_FILE: the first line of {path} is empty; expected a password")
    return lines[0]


def _read(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TlsInvalid(f"{setting}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TlsInvalid(f"{setting}: {path} is no text file; expected PEM format") from error


@runtime_checkable
class _Buffered(Protocol):
    """`asyncio.BufferedProtocol`, which the event loops' TLS protocols are without saying so."""

    def get_buffer(self, sizehint: int) -> memoryview | bytearray: ...

    def buffer_updated(self, nbytes: int) -> None: ...


class TlsHandshake(asyncio.Protocol):
    """A connection until its handshake is over: counted from its first moment, and cut off if it takes too long."""

    def __init__(self, http: HttpProtocol, context: ssl.SSLContext, table: ConnectionTable) -> None:
        self._http = http
        self._context = context
        self._table = table
        self._loop = asyncio.get_running_loop()
        self._early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self._table.admit(self, self._loop.time()) is Admitted.REFUSED:
            self._transport.abort()
            return
        self._table.heads.add(self, self._loop.time())
        self._task = self._loop.create_task(self._shake_hands())
        # In the turn after next: the task's first step has put TLS in place then, and the one after has started it.
        self._loop.call_soon(self._loop.call_soon, self._hand_over)

    def data_received(self, data: bytes) -> None:
        # Before TLS is in place: uvloop starts reading at once, whatever `connection_made` does.
        self._early += data

    def _hand_over(self) -> None:
        protocol = self._transport.get_protocol()
        while self._early and isinstance(protocol, _Buffered):
            buffer = protocol.get_buffer(len(self._early))
            size = min(len(buffer), len(self._early))
            buffer[:size] = self._early[:size]
            del self._early[:size]
            protocol.buffer_updated(size)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)

    def abort(self) -> None:
        self._transport.abort()

    def head_expired(self) -> None:
        self._transport.abort()

    def idle_expired(self) -> None:
        """It never idles."""

    async def _shake_hands(self) -> None:
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self._http,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._table.limits.head_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, RuntimeError) as error:  # ssl.SSLError and TimeoutError among them; or it is closed already
            log.debug("TLS handshake failed", reason=str(error))
            self._transport.abort()
        else:
            if transport is not None:
                self._http.carrier = self._transport
                self._table.remove(self)
                self._http.connection_made(transport)
        finally:
            self._table.remove(self)
