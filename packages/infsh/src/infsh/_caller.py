"""What the values of a caller may name: an input comes from somebody who need not have a right to this machine's files.

The kernel sets the rules while it reads a task's input or setup; every `File` that is made from a value meanwhile is
checked, also in models whose own `__init__` hides pydantic's context. Files that the app's code makes itself are not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CallerRules:
    """Which files a caller may name. URLs and `data:` URIs always; the rules say from where."""

    folder: Path | None = None
    """Where the server put the files that belong to this run: the only paths that are taken."""
    private: bool = False
    """Whether URLs may lead to addresses that are not of the public internet."""

    def grants(self, path: str) -> bool:
        """Whether the path, its links followed, lies in the run's folder."""
        return self.folder is not None and Path(path).resolve().is_relative_to(self.folder.resolve())


_rules: ContextVar[CallerRules | None] = ContextVar("infsh_caller_rules", default=None)


def caller_rules() -> CallerRules | None:
    """The rules for the value that is being read; None: it is the app's own, or that of who runs the app."""
    return _rules.get()


@contextmanager
def reading(rules: CallerRules | None) -> Iterator[None]:
    """Applies the rules to values that are read within the block."""
    token = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(token)
