"""Exponential backoff."""

import pytest

from mien.backoff import Backoff


def test_pauses_grow_to_the_most() -> None:
    backoff = Backoff(first=0.5, most=3.0)
    assert [backoff.pause(failures) for failures in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert Backoff(first=5.0, most=100.0, factor=3.0).pause(2) == 45.0


def test_it_waits_on_however_many_failures_there_were() -> None:
    assert Backoff(first=1.0, most=8.0).pause(100_000) == 8.0


@pytest.mark.parametrize(("failures", "exact"), [(0, 2.0), (3, 10.0)])
def test_jitter_spreads_the_pauses_within_its_bounds(failures: int, exact: float) -> None:
    backoff = Backoff(first=2.0, most=10.0, jitter=(0.8, 1.2))
    pauses = {backoff.pause(failures) for _ in range(100)}
    assert len(pauses) > 90
    assert all(0.8 * exact <= pause <= 1.2 * exact for pause in pauses)
