"""Messages over a connection: one class for threads, one for asyncio."""

import asyncio
import socket
import threading
from collections import deque
from pathlib import Path

from infsh._kernel.codec import Codec
from infsh._kernel.protocol import Message, ProtocolError

_CHUNK = 1 << 16


class Channel:
    """Messages over a connected, blocking socket. `send` may be called from any thread, `receive` from one."""

    def __init__(self, sock: socket.socket, spill: Path | None = None) -> None:
        self._socket = sock
        self._codec = Codec(spill)
        self._lock = threading.Lock()
        self._received: deque[Message] = deque()

    def send(self, message: Message) -> None:
        """Raises OSError when the peer is gone, ProtocolError when the message cannot be sent."""
        frame = self._codec.frame(message)
        with self._lock:
            self._socket.sendall(frame)

    def receive(self) -> Message | None:
        """The next message; None when the peer has closed. Raises ProtocolError, also for a stream cut in a frame."""
        while not self._received:
            data = self._socket.recv(_CHUNK)
            if not data:
                _must_be_whole(self._codec)
                return None
            self._received.extend(self._codec.feed(data))
        return self._received.popleft()

    def close(self) -> None:
        self._socket.close()


class AsyncChannel:
    """Messages over an asyncio stream. `send` may be called from several tasks, `receive` from one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spill: Path | None = None) -> None:
        self._reader = reader
        self._writer = writer
        self._codec = Codec(spill)
        self._received: deque[Message] = deque()

    async def send(self, message: Message) -> None:
        """Raises OSError when the peer is gone, ProtocolError when the message cannot be sent."""
        self._writer.write(self._codec.frame(message))
        await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message; None when the peer has closed. Raises ProtocolError, also for a stream cut in a frame."""
        while not self._received:
            data = await self._reader.read(_CHUNK)
            if not data:
                _must_be_whole(self._codec)
                return None
            self._received.extend(self._codec.feed(data))
        return self._received.popleft()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


def _must_be_whole(codec: Codec) -> None:
    if not codec.empty:
        raise ProtocolError("the connection was cut within a frame")
