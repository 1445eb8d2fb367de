"""The handshake between a worker process and this server: a private Unix socket and a token."""

import asyncio
import contextlib
import hmac
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from infsh._kernel import protocol
from infsh._kernel.channel import AsyncChannel
from mien.workers.listener import WorkerGone


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where a worker is expected to connect."""

    address: Path
    token: str
    """The worker must send it: another process of the same user could connect first."""
    reached: "asyncio.Future[AsyncChannel]"


@contextlib.asynccontextmanager
async def rendezvous(spill: Path) -> AsyncIterator[Rendezvous]:
    """Listen for one worker during the block. Long messages are passed through files in `spill`."""
    reached: asyncio.Future[AsyncChannel] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reached.done():  # only the first connection is accepted
            writer.close()
        else:
            reached.set_result(AsyncChannel(reader, writer, spill))

    # Not in the worker's directory: socket paths are limited to about 100 bytes, and data directories may be nested.
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        address = Path(folder) / "worker"
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
