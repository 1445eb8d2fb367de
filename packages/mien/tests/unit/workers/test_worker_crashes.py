import pytest

from mien.errors import AppBroken
from mien.workers.crashes import CrashBreaker


def test_crashes_in_a_row_lead_to_longer_and_longer_pauses() -> None:
    now = [0.0]
    breaker = CrashBreaker(2, lambda: now[0])
    breaker.crashed("v", "it exited with status 3")
    breaker.check("v", "ada/hello")
    breaker.crashed("v", "it exited with status 3")
    with pytest.raises(AppBroken, match=r"2 times in a row.*10 s: it exited with status 3") as caught:
        breaker.check("v", "ada/hello")
    assert caught.value.retry_after == 10
    breaker.check("other", "ada/other")
    now[0] = 10.5
    breaker.check("v", "ada/hello")
    breaker.crashed("v", "again")
    with pytest.raises(AppBroken, match="20 s"):
        breaker.check("v", "ada/hello")
    for _ in range(20):
        breaker.crashed("v", "again")
    with pytest.raises(AppBroken, match="300 s"):
        breaker.check("v", "ada/hello")


def test_a_run_that_works_ends_the_row() -> None:
    breaker = CrashBreaker(2)
    breaker.crashed("v", "x")
    breaker.worked("v")
    breaker.crashed("v", "x")
    breaker.check("v", "ada/hello")
