from datetime import UTC, datetime
from pathlib import Path

import pytest

from mien.apps.manifest import AppManifest
from mien.apps.record import AppVersion, Deployed
from mien.errors import AppBroken
from mien.workers.crashes import CrashBreaker


def deployed(name: str, chosen: float = 1.0) -> Deployed:
    version = AppVersion(
        namespace="ada", name=name, version=name * 8, created=datetime.now(UTC), manifest=AppManifest(), functions={}
    )
    return Deployed(version, Path(), chosen)


def test_crashes_in_a_row_lead_to_longer_and_longer_pauses() -> None:
    now = [0.0]
    breaker, hello = CrashBreaker(2, lambda: now[0]), deployed("hello")
    breaker.crashed(hello, "it exited with status 3")
    breaker.check(hello)
    breaker.crashed(hello, "it exited with status 3")
    with pytest.raises(AppBroken, match=r"2 times in a row.*10 s: it exited with status 3") as caught:
        breaker.check(hello)
    assert caught.value.retry_after == 10
    breaker.check(deployed("other"))
    now[0] = 10.5
    breaker.check(hello)
    breaker.crashed(hello, "again")
    with pytest.raises(AppBroken, match="20 s"):
        breaker.check(hello)
    for _ in range(20):
        breaker.crashed(hello, "again")
    with pytest.raises(AppBroken, match="300 s"):
        breaker.check(hello)


def test_a_run_that_works_ends_the_row() -> None:
    breaker, hello = CrashBreaker(2), deployed("hello")
    breaker.crashed(hello, "x")
    breaker.worked(hello)
    breaker.crashed(hello, "x")
    breaker.check(hello)


def test_deploying_again_ends_the_pause_and_old_workers_do_not_bring_it_back() -> None:
    breaker, before, again = CrashBreaker(2), deployed("hello", 1.0), deployed("hello", 2.0)
    breaker.crashed(before, "x")
    breaker.crashed(before, "x")
    with pytest.raises(AppBroken, match="deploying it again ends the pause"):
        breaker.check(before)
    breaker.check(again)
    breaker.crashed(before, "x")
    breaker.crashed(again, "x")
    breaker.check(again)
    breaker.crashed(again, "x")
    with pytest.raises(AppBroken):
        breaker.check(again)
