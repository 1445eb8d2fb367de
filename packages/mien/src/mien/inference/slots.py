"""The models that the services use, each in its place, where it can be replaced or taken away while they run."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from mien.zoo.on_demand import OnDemand

T = TypeVar("T")


class Slot(Generic[T]):
    """The place of one model. Set on the event loop, read from any thread."""

    def __init__(self, current: OnDemand[T] | None = None) -> None:
        self.current = current
        """None: there is no such model, nor will there be one on demand."""

    @property
    def active(self) -> OnDemand[T] | None:
        """The model that new requests use; None if there is none or it was unloaded."""
        current = self.current
        return None if current is None or current.is_unloaded else current


async def settled(models: Sequence[OnDemand[Any]]) -> None:
    """Wait briefly for those that are not loaded yet. If one stays missing, its `get` raises the reason."""
    await asyncio.gather(*(model.settle() for model in models))


@contextmanager
def held(models: Sequence[OnDemand[Any]]) -> Iterator[None]:
    """Keep the models for the length of a request. One that was just unloaded says so when it is needed."""
    with ExitStack() as stack:
        for model in models:
            if not model.is_unloaded:
                stack.enter_context(model.hold())
        yield
