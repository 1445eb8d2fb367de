"""Every error that can reach a user: a stable code, an HTTP status and a sentence that says what to do."""

from typing import Any, ClassVar, Self


class MienError(Exception):
    """Root of all errors that are shown to users.

    `code` is stable and documented in docs/operations.md, `status` is the HTTP status that a door answers with.
    The message is shown to clients: it never holds server paths, secrets or tracebacks.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds after which a new try makes sense, where that is known."""

    @property
    def is_fault(self) -> bool:
        """Whether this server is at fault, so that its log needs the traceback: for others the message says all."""
        return self.status == 500

    def without_frames(self) -> Self:
        """Itself, for when all is said: the frames of its traceback and causes would keep images alive.

        An error that is kept as a value, or that was kept in a frame that it passed, is a cycle with these frames,
        and garbage collection comes late for what is large.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class InternalError(MienError):
    """A bug or a broken machine: the details are in the server's log under the request id."""


# --- requests


class RequestError(MienError):
    """The request itself is wrong; sending it again unchanged cannot help."""

    code = "bad_request"
    status = 400


class InvalidField(RequestError):
    """A field has a wrong type or lies out of range; `fields` names each one and what was expected."""

    code = "invalid_field"
    status = 422

    def __init__(self, message: str, fields: tuple[dict[str, Any], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class Unauthorized(RequestError):
    """No API key, or one that this server does not know."""

    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    """The API key is valid but lacks the scope."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """Nothing by that name exists here."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class Conflict(RequestError):
    """What is asked for does not go together with the state that things are in."""

    code = "conflict"
    status = 409


class IdempotencyConflict(Conflict):
    """The idempotency key was used before, for a different request."""

    code = "idempotency_conflict"


class SessionNotFound(NotFound):
    """No session has that id; sessions do not outlive the server."""

    code = "SESSION_NOT_FOUND"


class SessionEnded(RequestError):
    """The session was ended on purpose."""

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
    """The asked-for range lies behind the end of the file."""

    code = "range_not_satisfiable"
    status = 416


class BodyTooLarge(RequestError):
    """The body, or the number of its items, is over a limit of this server."""

    code = "body_too_large"
    status = 413


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    code = "body_too_slow"
    status = 408


class UnsupportedMediaType(RequestError):
    """The content type is none that this route reads."""

    code = "unsupported_media_type"
    status = 415


class UpgradeRequired(RequestError):
    """This route speaks WebSocket: connect to it as one."""

    code = "upgrade_required"
    status = 426


# --- capacity and time


class Overloaded(MienError):
    """The bounded queue is full; `retry_after` says when there is likely room."""

    code = "overloaded"
    status = 429


class Unavailable(MienError):
    """The server is starting, draining or lacks a part that the request needs."""

    code = "unavailable"
    status = 503


class DeadlineExceeded(MienError):
    """The request's time was up before its work was done."""

    code = "deadline_exceeded"
    status = 504


class Cancelled(MienError):
    """The caller went away; nobody sees this but logs."""

    code = "cancelled"
    status = 499


class NodeFailed(MienError):
    """A node on another machine failed on the request, or answered what makes no sense."""

    code = "node_failed"
    status = 502


class NodeIncompatible(NodeFailed):
    """A node speaks another version of the protocol; nothing is routed to it."""

    code = "node_incompatible"


class StorageFull(MienError):
    """The server's disk is full: nothing more can be accepted until there is room."""

    code = "storage_full"
    status = 507


class DatabaseInUse(MienError):
    """Another server works with this data directory; seen at start only."""

    code = "database_in_use"


class StaleAttempt(MienError):
    """An attempt wrote to a task that it does not hold any more; nothing was changed. Seen in logs only."""

    code = "stale_attempt"
    status = 409


class CannotListen(MienError):
    """The server cannot open its ports as it was asked to; seen at start only."""

    code = "cannot_listen"


# --- images: these fail one image, never its neighbours


class ImageError(MienError):
    """One image could not be used."""

    code = "image_invalid"
    status = 422


class ImageFormatUnsupported(ImageError):
    """The bytes are no image in a format that this server reads."""

    code = "image_format_unsupported"


class ImageTruncated(ImageError):
    """The image's data ends early or is damaged."""

    code = "image_truncated"


class ImageTooLarge(ImageError):
    """The image has more pixels or bytes than this server decodes."""

    code = "image_too_large"
    status = 413


class SourceRefused(ImageError):
    """A URL or path that this server is not allowed to read."""

    code = "source_refused"
    status = 403


class SourceNotFound(ImageError):
    """The URL or path does not exist."""

    code = "source_not_found"
    status = 404


class SourceFailed(ImageError):
    """The URL could not be fetched: network, TLS, status or time."""

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
    """The model's files are not here and could not be acquired; the message says what would help."""

    code = "model_unavailable"
    status = 503


class ModelCorrupt(ModelError):
    """A model file does not have the hash that its manifest or the cache's record names."""

    code = "model_corrupt"


class ConsentRequired(ModelError):
    """The model's licence needs explicit consent before it is pulled."""

    code = "consent_required"
    status = 403


class ManifestInvalid(ModelError):
    """A model manifest lacks a field or has a wrong one."""

    code = "manifest_invalid"


# --- apps


class AppInvalid(RequestError):
    """The folder is no app that can be deployed; the message says what to change."""

    code = "app_invalid"
    status = 422


class AppUnknown(NotFound):
    """No app, version or function of that name is deployed."""

    code = "app_unknown"


class EnvironmentFailed(MienError):
    """The app's requirements could not be installed; the message holds the resolver's own words."""

    code = "environment_failed"


class AppBroken(MienError):
    """The app's workers crash again and again, so no more are started for a while; `retry_after` says for how long."""

    code = "app_broken"
    status = 503


class AppRunFailed(MienError):
    """The app failed on this input; the message is its own."""

    code = "app_failed"


class NoResources(MienError):
    """The app asks for more memory or GPUs than this machine has."""

    code = "no_resources"
    status = 503
