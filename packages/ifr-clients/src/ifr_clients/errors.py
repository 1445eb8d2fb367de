"""All exceptions that concern the server, in one hierarchy under `IFRError`."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where `extract_many` stopped. Passed to it as `start`, it goes on from there."""

    index: int
    """Position in the collection of the first image without a result."""
    results: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False)
    """Results beyond it that had arrived already, by position; they are not computed again."""


class IFRError(Exception):
    """Base class of all errors of this library.

    Invalid arguments are a `ValueError` or `TypeError`, before anything is sent.
    """

    stopped: Stopped | None = None
    """Where `extract_many` stopped; None if another method has raised this."""


class IFRConnectionError(IFRError, ConnectionError):
    """The server cannot be reached, or the connection broke before the response was complete."""

    transient = True
    """Whether trying again may help; not if the server's certificate is not trusted."""


class IFRTimeout(IFRError, TimeoutError):
    """The call's timeout expired before the response was complete."""


class IFRRejected(IFRError):
    """The server responded with a status other than 2xx."""

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
        """The server's error code, such as `overloaded`; `http_<status>` if it sends none."""
        self.message = message
        """The server's message."""
        self.request_id = request_id
        """The id of the request in the server's log, if known."""
        self.body = body
        """The decoded body; text if it is neither JSON nor MessagePack."""
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, if the server says so."""

    @property
    def has_code(self) -> bool:
        """Whether the server has sent an error code, which a proxy in front of it does not."""
        return self.code != f"http_{self.status}"

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}{_named(self.request_id)}"


class IFRResponseInvalid(IFRError):
    """The status is 2xx, but the body is not a valid response of the route."""

    def __init__(self, message: str, request_id: str | None = None, body: bytes = b"") -> None:
        super().__init__(message, request_id, body)
        self.message = message
        """What was expected and what was received."""
        self.request_id = request_id
        """The id of the request in the server's log, if known."""
        self.body = body
        """As received."""

    def __str__(self) -> str:
        return f"{self.message}{_named(self.request_id)}"


def _named(request_id: str | None) -> str:
    return f" (request id {request_id})" if request_id else ""
