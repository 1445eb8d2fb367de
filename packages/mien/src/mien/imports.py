"""Faster imports of many modules."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collection: nearly all that modules define stays, and looking through it again and again
    takes a fifth of the CPU of a start.

    What is in memory afterwards is excluded from later collections, too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
