"""Every error a user can see: a stable code, an HTTP status and a message that says what to do."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self


class MienError(Exception):
    """Base class of all errors that are shown to users.

    `code` is stable and documented in docs/operations.md; `status` is the HTTP status of the response. The message is
    shown to clients: it never contains server paths, secrets or tracebacks.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, if known."""

    @property
    def is_fault(self) -> bool:
        """Whether this server is at fault, so that its log needs the traceback; otherwise the message is enough."""
        return self.status in (500, 507)

    def without_frames(self) -> Self:
        """Itself without traceback and causes, whose frames would keep images alive.

        An error that is kept as a value forms a reference cycle with the frames it passed through, and the garbage
        collector may take long to free what they hold.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class InternalError(MienError):
    """A bug or a broken machine: the details are in the server's log under the request id."""


class TaskDamaged(InternalError):
    """A task's row in the database cannot be read; only this task is affected."""


# --- requests


class RequestError(MienError):
    """The request is malformed; do not retry it unchanged."""

    code = "bad_request"
    status = 400


class InvalidField(RequestError):
    """A field has the wrong type or is out of range; `fields` names each one and what was expected."""

    code = "invalid_field"
    status = 422

    def __init__(self, message: str, fields: tuple[dict[str, Any], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class Unauthorized(RequestError):
    """The API key is missing or unknown."""

    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    """The API key is valid but lacks the scope, or a web page of another origin sent the request."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """Nothing with that name exists here."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The route exists, but does not support the method."""

    code = "method_not_allowed"
    status = 405


class Conflict(RequestError):
    """The request conflicts with the current state."""

    code = "conflict"
    status = 409


class IdempotencyConflict(Conflict):
    """The idempotency key was already used for a different request."""

    code = "idempotency_conflict"


class SessionNotFound(NotFound):
    """No session has that id; sessions do not survive a restart of the server."""

    code = "SESSION_NOT_FOUND"


class SessionEnded(RequestError):
    """The session was ended explicitly."""

    code = "SESSION_ENDED"
    status = 410


class SessionExpired(RequestError):
    """The session's worker was idle for too long, or was lost, and its state with it."""

    code = "SESSION_EXPIRED"
    status = 410


class SessionMismatch(Conflict):
    """The session belongs to another app, variant or setup."""

    code = "APP_MISMATCH"


class RangeNotSatisfiable(RequestError):
    """The requested range is beyond the end of the file."""

    code = "range_not_satisfiable"
    status = 416


class BodyTooLarge(RequestError):
    """The body, or the number of its items, exceeds a limit of this server."""

    code = "body_too_large"
    status = 413


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    code = "body_too_slow"
    status = 408


class UrlTooLong(RequestError):
    """The URL exceeds a limit of this server."""

    code = "url_too_long"
    status = 414


class HeadersTooLarge(RequestError):
    """The headers, their number, or the fields after a chunked body exceed a limit of this server."""

    code = "headers_too_large"
    status = 431


class HeadersTooSlow(RequestError):
    """The headers did not arrive in time."""

    code = "headers_too_slow"
    status = 408


class UnsupportedMediaType(RequestError):
    """This route does not support the content type."""

    code = "unsupported_media_type"
    status = 415


class UpgradeRequired(RequestError):
    """This route requires a WebSocket connection."""

    code = "upgrade_required"
    status = 426


# --- capacity and time


class Overloaded(MienError):
    """A queue is full; `retry_after` estimates when there will be capacity."""

    code = "overloaded"
    status = 429


class QuotaExceeded(Overloaded):
    """The owner of the API key uses as much as its quota allows; the message says of what, and how much."""

    code = "quota_exceeded"


class Unavailable(MienError):
    """The server is starting, shutting down, out of connections, or lacks a component that the request needs."""

    code = "unavailable"
    status = 503


class NodeLost(Unavailable):
    """The connection to a node broke: nothing of it can be used, whatever the task."""


class DeadlineExceeded(MienError):
    """The deadline of the request passed before its work was done."""

    code = "deadline_exceeded"
    status = 504


class Cancelled(MienError):
    """The client disconnected; seen in logs only."""

    code = "cancelled"
    status = 499


class NodeFailed(MienError):
    """A node on another machine failed, or its response is invalid."""

    code = "node_failed"
    status = 502


class NodeIncompatible(NodeFailed):
    """A node speaks another version of the protocol; no requests are routed to it."""

    code = "node_incompatible"


class StorageFull(MienError):
    """The server's disk is full; nothing can be accepted until space is freed."""

    code = "storage_full"
    status = 507


class DatabaseInUse(MienError):
    """Another server uses this data directory; seen at startup only."""

    code = "database_in_use"


class DatabaseMissing(MienError):
    """The database of a data directory that was used before is missing or empty; seen at startup only."""

    code = "database_missing"


class StaleAttempt(MienError):
    """An attempt wrote to a task that it no longer holds; nothing was changed. Seen in logs only."""

    code = "stale_attempt"
    status = 409


class InvalidSettings(MienError):
    """Settings are unknown or invalid; seen at startup and by commands only. `problems`: a sentence for each."""

    code = "settings"

    def __init__(self, *problems: str, retry_after: float | None = None) -> None:
        super().__init__("; ".join(problems), retry_after=retry_after)
        self.problems = problems


class CannotListen(MienError):
    """The server cannot open its ports as configured; seen at startup only."""

    code = "cannot_listen"


class TlsInvalid(MienError):
    """A certificate or key that the settings name cannot be used; seen at startup only."""

    code = "tls_invalid"


# --- images: these fail one image, never the others of its request


class ImageError(MienError):
    """One image could not be used."""

    code = "image_invalid"
    status = 422


class ImageFormatUnsupported(ImageError):
    """The bytes are not an image in a supported format."""

    code = "image_format_unsupported"


class ImageTruncated(ImageError):
    """The image is truncated or corrupt."""

    code = "image_truncated"


class ImageTooLarge(ImageError):
    """The image has more pixels or bytes than this server decodes."""

    code = "image_too_large"
    status = 413


class SourceRefused(ImageError):
    """The server is not allowed to read that URL or path."""

    code = "source_refused"
    status = 403


class SourceNotFound(ImageError):
    """The URL or path does not exist."""

    code = "source_not_found"
    status = 404


class SourceFailed(ImageError):
    """The URL could not be fetched: network, TLS, status or timeout."""

    code = "source_failed"
    status = 502


# --- models


class ModelError(MienError):
    """A model could not be acquired, verified or run."""

    code = "model_failed"


class ModelUnknown(ModelError):
    """No manifest has that name."""

    code = "model_unknown"
    status = 404


class ModelUnavailable(ModelError):
    """The model is not on this machine and could not be acquired; the message says what would help."""

    code = "model_unavailable"
    status = 503


class ModelCorrupt(ModelError):
    """A model file does not match the hash in its manifest or in the cache's record."""

    code = "model_corrupt"


class ModelInUse(ModelError):
    """The model cannot be unloaded: the face pipeline needs it as long as the server runs."""

    code = "model_in_use"
    status = 409


class ConsentRequired(ModelError):
    """The model's licence requires explicit consent before it is pulled."""

    code = "consent_required"
    status = 403


class ManifestInvalid(ModelError):
    """A model manifest has a missing or invalid field."""

    code = "manifest_invalid"


# --- apps


class AppInvalid(RequestError):
    """The folder is not a deployable app; the message says what to change."""

    code = "app_invalid"
    status = 422


class AppUnknown(NotFound):
    """No app, version or function with that name is deployed."""

    code = "app_unknown"


class EnvironmentFailed(MienError):
    """The app's requirements could not be installed; the message is the resolver's."""

    code = "environment_failed"


class AppBroken(MienError):
    """The app's workers keep crashing, so none are started for a while; `retry_after` says for how long."""

    code = "app_broken"
    status = 503


class AppRunFailed(MienError):
    """The app failed on this input; the message is the app's."""

    code = "app_failed"


class NoResources(MienError):
    """The app requires more memory or GPUs than this machine has."""

    code = "no_resources"
    status = 503


# --- codes of other servers


def class_of_code(code: str) -> type[MienError] | None:
    """The error class for a code that another server sent; the most general class if several share the code."""
    return _BY_CODE.get(code)


def _classes(root: type[MienError]) -> Iterator[type[MienError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


_BY_CODE = {kind.code: kind for kind in reversed(list(_classes(MienError)))}
