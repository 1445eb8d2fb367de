"""The handshake between a worker process and this server: a private Unix socket and a token."""

import asyncio
import contextlib
import hmac
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from infsh._kernel import protocol
from infsh._kernel.channel import AsyncChannel
from mien.errors import InvalidSettings
from mien.workers.listener import WorkerGone

LONGEST_ADDRESS = 103
"""Bytes of a Unix socket's path: 107 on Linux, 103 on macOS."""
_NAME = "worker"
_RANDOM = "mien-12345678"  # as tempfile appends it
_USUAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - in a private folder below


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where a worker is expected to connect."""

    address: Path
    token: str
    """The worker must send it: another process of the same user could connect first."""
    reached: "asyncio.Future[AsyncChannel]"


def socket_folder() -> str:
    """The folder for temporary files, or the first usual one if the path of a socket there would be too long. Raises
    InvalidSettings if none can be used."""
    wanted = tempfile.gettempdir()
    for folder in (wanted, *_USUAL_FOLDERS):
        fits = len(os.fsencode(Path(folder, _RANDOM, _NAME))) <= LONGEST_ADDRESS
        if fits and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise InvalidSettings(f"TMPDIR: {wanted} is too long for the sockets of workers, and /tmp cannot be written")


@contextlib.asynccontextmanager
async def rendezvous(spill: Path) -> AsyncIterator[Rendezvous]:
    """Listen for one worker during the block. Long messages are passed through files in `spill`."""
    reached: asyncio.Future[AsyncChannel] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reached.done():  # only the first connection is accepted
            writer.close()
        else:
            reached.set_result(AsyncChannel(reader, writer, spill))

    # Not in the worker's directory: data directories may be nested too deeply for a socket's path.
    with tempfile.TemporaryDirectory(prefix="mien-", dir=socket_folder()) as folder:
        address = Path(folder) / _NAME
        server = await asyncio.start_unix_server(connected, address, limit=2**20)
        try:
            address.chmod(0o600)
            yield Rendezvous(address, secrets.token_urlsafe(32), reached)
        finally:
            server.close()


async def greet(channel: AsyncChannel, token: str) -> protocol.Hello:
    """Receive the worker's first message. Raises WorkerGone if the token or the protocol version is wrong."""
    hello = await channel.receive()
    if not isinstance(hello, protocol.Hello) or not hmac.compare_digest(hello.token, token):
        raise WorkerGone("the worker did not identify itself")
    if hello.version != protocol.VERSION:
        raise WorkerGone(f"the worker speaks version {hello.version} of the protocol, not {protocol.VERSION}")
    return hello
