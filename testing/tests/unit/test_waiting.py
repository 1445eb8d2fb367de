"""A wait ends with the first true value, or names what it waited for."""

import pytest

from testing.waiting import eventually, eventually_async


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, "", "found", "later"])
    assert eventually(lambda: next(values), every=0.001) == "found"


async def test_a_condition_may_be_a_coroutine() -> None:
    values = iter([0, 7])

    async def value() -> int:
        return next(values)

    assert await eventually_async(value, every=0.001) == 7


def test_what_never_comes_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not within 0.01 s, but \[\]: .*never_comes"):
        eventually(lambda: [] if "never_comes" else None, 0.01, every=0.001)
