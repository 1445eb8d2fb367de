"""Rules for files in values from clients, who may not have access to the files of this machine.

The kernel applies them while it validates a task's input or setup: every `File` created from a value in the meantime is
checked, also in models whose own `__init__` hides pydantic's context. Files that the app's own code creates are not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CallerRules:
    """Which files a client may refer to. URLs and `data:` URIs are always possible; the rules say from where."""

    folder: Path | None = None
    """The directory in which the server placed the files of this run: only paths in it are accepted."""
    private: bool = False
    """Whether URLs may resolve to addresses outside of the public internet."""

    def grants(self, path: str) -> bool:
        """Whether the path, after resolving links, is in the run's directory."""
        return self.folder is not None and Path(path).resolve().is_relative_to(self.folder.resolve())


_rules: ContextVar[CallerRules | None] = ContextVar("infsh_caller_rules", default=None)


def caller_rules() -> CallerRules | None:
    """The rules for the value being validated; None: it comes from the app, or from the user who runs it."""
    return _rules.get()


@contextmanager
def reading(rules: CallerRules | None) -> Iterator[None]:
    """Applies the rules to values that are validated within the block."""
    token = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(token)
