"""All open connections: which may come in, which give way, and which have taken too long."""

from enum import Enum
from typing import Protocol

import structlog

from mien.connections.limits import RESERVED_CONNECTIONS, ConnectionLimits
from mien.connections.transport import MeasuredTransport
from mien.connections.waiting import Waiting
from mien.metrics import Metrics

log = structlog.get_logger()
LINGER_SECONDS = 2.0
"""For a client to read the error before the connection is reset, which unread input would cause at once."""
SILENT_SECONDS = 5.0
"""Without a byte of its body a request gives way to new connections if there are too many."""


class Connection(Protocol):
    """What the table does to a connection."""

    def abort(self) -> None:
        """Close it at once."""

    def head_expired(self) -> None:
        """The head of a request has not arrived in time."""

    def idle_expired(self) -> None:
        """No further request has come in time."""


class Admitted(Enum):
    """How a new connection is let in."""

    NORMAL = "normal"
    RESERVED = "reserved"
    """Liveness and readiness only."""
    REFUSED = "refused"


class ConnectionTable:
    """The connections of one server, on its event loop.

    Once there are as many as allowed, one that waits for its client gives way to each new one: a connection without a
    complete head of a request, then one that idles between requests, then one whose body has stopped arriving; the
    oldest first. Clients that send something right away are served however many others hold connections open. If all
    work, a reserve remains for liveness and readiness.
    """

    def __init__(self, limits: ConnectionLimits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self._open: set[Connection] = set()
        self.heads: Waiting[Connection] = Waiting(limits.head_seconds)
        """Without a complete head of a request."""
        self.idle: Waiting[Connection] = Waiting(limits.keep_alive_seconds)
        """Between two requests."""
        self.bodies: Waiting[Connection] = Waiting(float("inf"))
        """Without a complete body; since its last bytes. The readers of bodies have deadlines of their own."""
        self.lingering: Waiting[Connection] = Waiting(LINGER_SECONDS)
        """Answered, and to be closed."""
        self.writing: dict[MeasuredTransport, Connection] = {}
        """With bytes that the client may not have taken yet."""
        metrics.connections.set_function(lambda: len(self._open))

    def admit(self, connection: Connection, now: float) -> Admitted:
        """Let a new connection in if there is room, or can be made."""
        if len(self._open) >= self.limits.connections:
            self._make_room(now)
        if len(self._open) >= self.limits.connections + RESERVED_CONNECTIONS:
            self._count("refused")
            return Admitted.REFUSED
        self._open.add(connection)
        return Admitted.NORMAL if len(self._open) <= self.limits.connections else Admitted.RESERVED

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        for state in (self.heads, self.idle, self.bodies, self.lingering):
            state.discard(connection)

    def replace(self, old: Connection, new: Connection) -> None:
        """The connection goes on under another protocol."""
        self.remove(old)
        self._open.add(new)

    def sweep(self, now: float) -> None:
        """Close what has taken too long."""
        for connection in self.heads.expired(now):
            self._count("headers_too_slow")
            connection.head_expired()
        for connection in self.idle.expired(now):
            self._count("idle")
            connection.idle_expired()
        for connection in self.lingering.expired(now):
            connection.abort()
        for transport, connection in list(self.writing.items()):
            if transport.is_flushed(now):
                del self.writing[transport]
            elif now - transport.last_progress > self.limits.stalled_seconds:
                log.warning("client stalled: connection closed", seconds=self.limits.stalled_seconds)
                self._count("stalled")
                del self.writing[transport]
                connection.abort()

    def _make_room(self, now: float) -> None:
        oldest = (
            self.lingering.oldest(now)
            or self.heads.oldest(now)
            or self.idle.oldest(now)
            or self.bodies.oldest(now, at_least=SILENT_SECONDS)
        )
        if oldest is not None:
            self._count("gave_way")
            self.remove(oldest)
            oldest.abort()

    def _count(self, reason: str) -> None:
        self.metrics.connections_ended.labels(reason).inc()
