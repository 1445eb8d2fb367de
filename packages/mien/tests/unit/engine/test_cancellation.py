"""A scope's deadline and cancellation reach everything that waits for it."""

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


def test_a_cancelled_scope_raises_cancelled_even_past_its_deadline() -> None:
    call = CancelScope(0)
    call.cancel()
    with pytest.raises(Cancelled):
        call.check()


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
