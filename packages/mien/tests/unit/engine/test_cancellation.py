"""A scope's deadline and cancellation reach everything that waits for it."""

import asyncio
import time

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import Cancelled, DeadlineExceeded


def test_a_scope_without_timeout_is_never_over() -> None:
    call = CancelScope()
    call.check()
    assert (call.over(), call.remaining()) == (False, None)


def test_a_scope_is_over_at_its_deadline() -> None:
    call = CancelScope(0)
    assert call.over()
    assert call.remaining() == 0
    with pytest.raises(DeadlineExceeded, match="within 0 s"):
        call.check()


def test_a_scope_that_is_cancelled_at_its_deadline_raises_deadline_exceeded() -> None:
    scope = CancelScope(0)
    scope.cancel()
    assert not scope.cancelled
    with pytest.raises(DeadlineExceeded):
        scope.check()


def test_a_scope_that_was_cancelled_before_its_deadline_stays_cancelled() -> None:
    scope = CancelScope(0.05)
    scope.cancel()
    time.sleep(0.06)
    assert scope.cancelled
    with pytest.raises(Cancelled):
        scope.check()


def test_cancel_wakes_every_subscriber_once_and_none_that_left() -> None:
    call, woken = CancelScope(), []

    def leaver() -> None:
        woken.append("leaver")

    call.subscribe(lambda: woken.append("one"))
    call.subscribe(lambda: woken.append("two"))
    call.subscribe(leaver)
    call.unsubscribe(leaver)
    call.cancel()
    assert sorted(woken) == ["one", "two"]


def test_a_subscriber_of_a_cancelled_scope_is_woken_immediately() -> None:
    call, woken = CancelScope(), []
    call.cancel()
    call.subscribe(lambda: woken.append("late"))
    assert woken == ["late"]


def test_unsubscribing_twice_is_allowed() -> None:
    call = CancelScope()
    call.unsubscribe(print)


def test_the_first_reason_wins() -> None:
    late, gone = CancelScope(60), CancelScope(60)
    late.expire()  # a timer that fires early
    late.cancel()
    assert not late.cancelled
    with pytest.raises(DeadlineExceeded):
        late.check()
    gone.cancel()
    gone.expire()
    assert gone.cancelled
    with pytest.raises(Cancelled):
        gone.check()


async def test_a_bound_block_that_cancels_its_scope_when_it_is_interrupted_was_late() -> None:
    scope = CancelScope(0.02)

    async def block() -> None:
        async with scope.bounding():
            try:
                await asyncio.sleep(60)
            finally:
                scope.cancel()

    with pytest.raises(DeadlineExceeded):
        await block()
    with pytest.raises(DeadlineExceeded):
        scope.check()
    assert not scope.cancelled


async def test_a_bound_block_whose_client_disconnects_was_cancelled() -> None:
    scope = CancelScope(0.2)
    asyncio.get_running_loop().call_later(0.01, scope.cancel)
    with pytest.raises(Cancelled):
        async with scope.bounding():
            await asyncio.sleep(60)
    scope.expire()
    assert scope.cancelled
