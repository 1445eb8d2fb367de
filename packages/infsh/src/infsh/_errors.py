"""The errors of this package whose messages are meant for people who write or run apps."""


class InfshError(Exception):
    """Base class. The message is one sentence: what was given, what was expected and what to do."""


class FileUnavailable(InfshError, RuntimeError):
    """The content of a `File` is not available: not found, unreachable, too large, or its URI is not supported.

    `code` is the server's, where it could not fetch the file; else empty.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class ManifestInvalid(InfshError):
    """An `inf.yml` has a missing or invalid key."""


class AppInvalid(InfshError):
    """A folder contains no app that can be loaded, or the app violates the rules of docs/apps.md."""
