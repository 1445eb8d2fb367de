"""A call's deadline and cancel reach everything that waits for it."""

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import Cancelled, DeadlineExceeded


def test_a_call_without_timeout_is_never_over() -> None:
    call = CancelScope()
    call.check()
    assert (call.over(), call.remaining()) == (False, None)


def test_a_call_is_over_at_its_deadline() -> None:
    call = CancelScope(0)
    assert call.over()
    assert call.remaining() == 0
    with pytest.raises(DeadlineExceeded, match="within 0 s"):
        call.check()


def test_a_cancelled_call_says_so_even_past_its_deadline() -> None:
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


def test_who_subscribes_to_a_cancelled_call_is_woken_at_once() -> None:
    call, woken = CancelScope(), []
    call.cancel()
    call.subscribe(lambda: woken.append("late"))
    assert woken == ["late"]


def test_unsubscribing_twice_is_no_error() -> None:
    call = CancelScope()
    call.unsubscribe(print)
