"""The errors of this package that are meant to be read by whoever writes or runs an app."""


class InfshError(Exception):
    """Root of them all. The message is one sentence that says what was given, what was expected and what to do."""


class FileUnavailable(InfshError, RuntimeError):
    """The content of a `File` cannot be had: not found, not reachable, too large, or its URI is not understood."""


class ManifestInvalid(InfshError):
    """An `inf.yml` lacks a key or has a wrong one."""


class AppInvalid(InfshError):
    """A folder holds no app that can be loaded, or the app does not follow the rules of docs/apps.md."""
