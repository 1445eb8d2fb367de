"""Everything that this library raises about a server, in one hierarchy under `IFRError`."""

from typing import Any


class IFRError(Exception):
    """Root of all errors of this library. A wrong argument is a `ValueError`, before anything is sent."""


class IFRConnectionError(IFRError, ConnectionError):
    """The server cannot be reached, or the connection broke before its answer was complete."""


class IFRTimeout(IFRError, TimeoutError):
    """The call's time was up before its answer was complete."""


class IFRRejected(IFRError):
    """The server answered with another status than 2xx."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        body: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, message, request_id, body, retry_after)
        self.status = status
        """HTTP status."""
        self.code = code
        """The server's word for what went wrong, such as `overloaded`; `http_<status>` where it gives none."""
        self.message = message
        """The server's sentence."""
        self.request_id = request_id
        """Under which the server's log knows the request, where it says so."""
        self.body = body
        """The decoded answer; text where it is neither JSON nor MessagePack."""
        self.retry_after = retry_after
        """Seconds after which a new try makes sense, where the server says so."""

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}{_named(self.request_id)}"


class IFRResponseInvalid(IFRError):
    """The status is fine but the body is not what this route answers with."""

    def __init__(self, message: str, request_id: str | None = None, body: bytes = b"") -> None:
        super().__init__(message, request_id, body)
        self.message = message
        """What was expected and what came."""
        self.request_id = request_id
        """Under which the server's log knows the request, where it says so."""
        self.body = body
        """As it came."""

    def __str__(self) -> str:
        return f"{self.message}{_named(self.request_id)}"


def _named(request_id: str | None) -> str:
    return f" (request id {request_id})" if request_id else ""
