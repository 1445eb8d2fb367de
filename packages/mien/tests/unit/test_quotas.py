"""Quotas of owners: off until they are set, exact, and fair to everybody else."""

from pathlib import Path

import pytest

from mien.errors import InternalError, QuotaExceeded, RequestError
from mien.quotas import FileOwnerStore, Limits, Quotas
from mien.settings import Settings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def quotas_of(folder: Path, clock: Clock, **defaults: int) -> Quotas:
    settings = Settings(**{f"owner_{name}": value for name, value in defaults.items()})
    return Quotas(settings.quotas, FileOwnerStore(folder), clock=clock)


def test_without_quotas_nothing_is_counted(tmp_path: Path, clock: Clock) -> None:
    quotas = quotas_of(tmp_path, clock)
    assert quotas.of("a") == Limits()
    for _ in range(1000):
        quotas.count_request("a")
    with quotas.images("a", 10**6):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_owner_s_own_quotas_replace_the_settings_at_once_and_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    quotas = quotas_of(tmp_path, clock, queued=5, running=2)
    FileOwnerStore(tmp_path).set("a", {"queued": 9, "running": None})
    for seen in (quotas, quotas_of(tmp_path, clock, queued=5, running=2)):
        assert seen.of("a") == Limits(queued=9)
        assert seen.of("b") == Limits(queued=5, running=2)
    FileOwnerStore(tmp_path).set("a", {"images": 0})
    assert quotas.of("a") == Limits(queued=9, images=0)
    FileOwnerStore(tmp_path).reset("a")
    assert quotas.of("a") == Limits(queued=5, running=2)


def test_a_damaged_file_never_lifts_a_quota(tmp_path: Path, clock: Clock) -> None:
    store, quotas = FileOwnerStore(tmp_path), quotas_of(tmp_path, clock)
    store.set("a", {"queued": 1})
    for damage in (b"", b"[]", b'{"a": {"queued": "x"}}', b"\xff"):
        (tmp_path / "owners.json").write_bytes(damage)
        with pytest.raises(InternalError, match=r"owners\.json"):
            quotas.of("a")
        with pytest.raises(InternalError):
            store.set("b", {"queued": 1})
        assert (tmp_path / "owners.json").read_bytes() == damage


def test_only_an_owner_has_quotas(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="an owner is 1 to 64"):
        FileOwnerStore(tmp_path).set("a b", {"queued": 1})


def test_requests_over_the_quota_are_told_when_the_next_one_is_let_in(tmp_path: Path, clock: Clock) -> None:
    quotas = quotas_of(tmp_path, clock, requests=3)
    for _ in range(3):
        quotas.count_request("a")
        clock.now += 0.25
    with pytest.raises(QuotaExceeded) as caught:
        quotas.count_request("a")
    assert caught.value.message == "quota of requests per second: the owner 'a' may have 3 and has 3"
    assert caught.value.retry_after == pytest.approx(0.25)
    quotas.count_request("b")
    clock.now += 0.25
    quotas.count_request("a")
    with pytest.raises(QuotaExceeded):
        quotas.count_request("a")


def test_images_inside_count_until_they_leave(tmp_path: Path, clock: Clock) -> None:
    quotas = quotas_of(tmp_path, clock, images=4)
    with quotas.images("a", 3):
        with pytest.raises(QuotaExceeded, match="may have 4 and has 3; this request needs 2 more") as caught:
            quotas.images("a", 2).__enter__()
        assert caught.value.retry_after is not None
        with quotas.images("a", 1), quotas.images("b", 4):
            pass
    with quotas.images("a", 4):
        pass
    with pytest.raises(QuotaExceeded) as caught, quotas.images("a", 5):
        pass
    assert caught.value.retry_after is None, "no wait would help"
    with pytest.raises(ZeroDivisionError), quotas.images("a", 4):
        _ = 1 / 0
    with quotas.images("a", 4):
        pass
