"""Connections in one state, oldest first."""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Members with the time since when each is here. All have the same patience, so that order is age."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, member: T) -> bool:
        return member in self._since

    def add(self, member: T, now: float) -> None:
        """Add the member as the youngest; again if it is here already."""
        self._since.pop(member, None)
        self._since[member] = now

    def discard(self, member: T) -> None:
        self._since.pop(member, None)

    def oldest(self, now: float, *, at_least: float = 0.0) -> T | None:
        """The member that has been here longest, if for at least so many seconds."""
        member = next(iter(self._since), None)
        return member if member is not None and now - self._since[member] >= at_least else None

    def expired(self, now: float) -> Iterator[T]:
        """Remove and yield every member that has been here for too long."""
        while (member := self.oldest(now, at_least=self.seconds)) is not None:
            del self._since[member]
            yield member
