"""How many values a document may hold, and how deeply it may be nested.

The parsers hold the interpreter lock for their whole call, so that no thread keeps a document of millions of values
from stopping the event loop, and each value takes many times its bytes in memory. Therefore a pass counts
the values first, and stops at the limit.
"""

from dataclasses import dataclass

from mien.errors import BodyTooLarge, RequestError

MAX_DEPTH = 64
TEXT_COSTS = 1
"""What a text counts beside being a value: it takes about twice the time and memory of a number."""
CONTAINER_COSTS = 2
"""The same for a list or map."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may hold."""

    values: int
    """Weighted: a number counts 1, a text or name 2, a list or map 3."""
    depth: int = MAX_DEPTH
    """Levels of lists and maps."""
    noun: str = "the body"
    """What errors call the document."""

    def too_many(self) -> BodyTooLarge:
        """The error for a document with more values."""
        return BodyTooLarge(
            f"{self.noun} has too many values: numbers count 1, texts and names 2, lists and maps 3, and this server "
            f"reads at most {self.values} (MIEN_MAX_VALUES)"
        )

    def too_deep(self) -> RequestError:
        """The error for a document with more levels."""
        return RequestError(f"{self.noun} is nested more than {self.depth} levels deep")
