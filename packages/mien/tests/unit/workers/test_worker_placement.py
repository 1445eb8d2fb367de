import pytest

from mien.workers.placement import LocalPlacement, Need, gpu_variables


def test_capacity_is_counted_in_workers_memory_and_gpus() -> None:
    placement = LocalPlacement(workers=2, memory=100, gpus=2)
    first = placement.claim(Need(60, 1))
    assert first.gpu_ids == (0,)
    assert not placement.fits(Need(50))
    assert placement.fits(Need(50), [first])
    second = placement.claim(Need(40, 1))
    assert second.gpu_ids == (1,)
    assert not placement.fits(Need(0))
    placement.release(first)
    assert placement.claim(Need(60, 1)).gpu_ids == (0,)


def test_what_never_fits_is_reported() -> None:
    placement = LocalPlacement(workers=2, memory=2**30, gpus=1)
    assert placement.lacks(Need(2**30, 1)) is None
    assert "needs 2.0 GiB" in (placement.lacks(Need(2**31)) or "")
    assert "needs 2 GPUs; this server has 1" in (placement.lacks(Need(0, 2)) or "")


def test_a_worker_sees_its_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    placement = LocalPlacement(workers=2, memory=100, gpus=2)
    assert gpu_variables(placement.claim(Need(1, 0))) == {"CUDA_VISIBLE_DEVICES": "-1"}
    assert gpu_variables(placement.claim(Need(1, 2))) == {"CUDA_VISIBLE_DEVICES": "4,7"}
