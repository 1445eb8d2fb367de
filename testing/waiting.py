"""Waiting for what another thread or process brings about: in one way, with one patience.

A wait that ends as soon as its condition holds can afford to be patient, so the budget is what a busy machine may
need, not what an idle one takes. A promise about time is asserted by the test that states it.
"""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds. Below the limit of a test's phase (pyproject.toml: timeout), so that the wait is what fails."""


def eventually(condition: Callable[[], T], seconds: float = PATIENCE, *, every: float = 0.02) -> T:
    """Return the first true value of `condition`. Fails with the last value after that many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            _give_up(condition, value, seconds)
        time.sleep(every)
    return value


async def eventually_async(condition: Callable[[], Any], seconds: float = PATIENCE, *, every: float = 0.01) -> Any:
    """As `eventually`, while the event loop runs; the condition may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            _give_up(condition, value, seconds)
        await asyncio.sleep(every)


def _give_up(condition: Callable[[], object], value: object, seconds: float) -> NoReturn:
    __tracebackhide__ = True
    try:
        wanted = inspect.getsource(condition).strip()
    except (TypeError, OSError):  # made in C, or typed in
        wanted = repr(condition)
    pytest.fail(f"not within {seconds:g} s, but {value!r}: {wanted}")
