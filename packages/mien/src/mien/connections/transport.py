"""A transport that knows whether its client reads."""

import asyncio
from collections.abc import Callable
from typing import Any


class MeasuredTransport(asyncio.Transport):
    """Counts what is written, so that a client which reads nothing is told from one that reads slowly.

    The size of the buffer alone does not tell: it also stays the same while as much is read as is written.
    """

    __slots__ = ("_carrier", "_inner", "_measured", "_on_close", "_on_write", "_taken", "_written", "last_progress")

    def __init__(
        self,
        inner: asyncio.Transport,
        on_write: Callable[["MeasuredTransport"], None],
        on_close: Callable[[], None],
        carrier: asyncio.Transport | None = None,
    ) -> None:
        """`carrier`: the transport below `inner` if that one encrypts; it has a buffer of its own."""
        super().__init__()
        self._inner = inner
        self._carrier = carrier
        self._on_write = on_write
        self._on_close = on_close
        self._written = 0
        self._taken = 0
        self._measured = False
        self.last_progress = 0.0
        """When the client was last seen to take something; on the clock of `is_flushed`."""

    def detach(self) -> None:
        """The connection is lost: let go of its protocol, which has this transport."""
        self._on_write, self._on_close = _ignore, self._inner.close

    def is_flushed(self, now: float) -> bool:
        """Whether the client has taken everything; updates `last_progress`."""
        unsent = self._inner.get_write_buffer_size()
        if self._carrier is not None:
            unsent += self._carrier.get_write_buffer_size()
        taken = self._written - unsent
        if taken > self._taken or not self._measured:
            self.last_progress, self._taken = now, taken
        self._measured = unsent > 0
        return unsent == 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += len(data)
        self._on_write(self)
        self._inner.write(data)

    def close(self) -> None:
        self._on_close()

    def close_now(self) -> None:
        """Close as soon as everything is written."""
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()
        if self._carrier is not None:
            self._carrier.abort()

    def write_eof(self) -> None:
        self._inner.write_eof()

    def can_write_eof(self) -> bool:
        return self._inner.can_write_eof()

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner.get_protocol()


def _ignore(transport: MeasuredTransport) -> None:
    pass
