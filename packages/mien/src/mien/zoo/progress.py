"""How a pull reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """Receives one step at a time: `start`, any number of `advance`, `done`."""

    def start(self, label: str, total: int | None) -> None:
        """A step begins; `total` is its size in bytes where that is known."""
        ...

    def advance(self, amount: int) -> None:
        """`amount` more bytes of the step are done."""
        ...

    def done(self) -> None:
        """The step is over."""
        ...


class Silent:
    """Reports nothing."""

    def start(self, label: str, total: int | None) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def done(self) -> None:
        pass
