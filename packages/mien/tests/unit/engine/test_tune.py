"""Measurements are stored per machine and model file, and the plan follows simple rules."""

from pathlib import Path

import pytest

from mien.engine.plan import Plan
from mien.engine.tune import Measurement, Tuning, choose, combinations, recall, record_path, remember

CPU = ("cpu",)


def measured(*rows: tuple[int, int, int, float]) -> tuple[Measurement, ...]:
    return tuple(Measurement(*row) for row in rows)


def test_the_fastest_combination_is_chosen() -> None:
    assert choose(measured((2, 1, 1, 100), (1, 2, 1, 80), (2, 1, 4, 150))) == Plan(2, 1, 4)


def test_of_nearly_equal_ones_the_smallest_batch_is_chosen() -> None:
    assert choose(measured((2, 1, 1, 100), (2, 1, 8, 104))) == Plan(2, 1, 1)


def test_of_nearly_equal_ones_with_one_batch_size_the_most_lanes_are_chosen() -> None:
    assert choose(measured((1, 2, 1, 104), (2, 1, 1, 100))) == Plan(2, 1, 1)


def test_a_tuning_is_remembered_and_recalled(tmp_path: Path) -> None:
    path = tmp_path / "tuning" / "record.json"
    assert recall(path) is None
    remember(path, Tuning(Plan(2, 1, 4), measured((2, 1, 4, 99.5))))
    assert recall(path) == Plan(2, 1, 4)
    remember(path, Tuning(Plan(1, 2, 1), ()))
    assert recall(path) == Plan(1, 2, 1)
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"plan": 3}', b"\xff\xfe", b"[]", b'{"plan": {"lanes": "two"}}'])
def test_a_damaged_record_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert recall(path) is None


@pytest.mark.parametrize("values", ["0", "-1"])
def test_a_record_with_senseless_numbers_is_as_good_as_none(tmp_path: Path, values: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(f'{{"plan": {{"lanes": {values}, "lane_threads": 1, "max_batch": 1}}, "measurements": []}}')
    assert recall(path) is None


def test_another_file_provider_or_budget_has_another_record(tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    paths = [
        record_path(tmp_path, one, CPU, 2),
        record_path(tmp_path, two, CPU, 2),
        record_path(tmp_path, one, ("cuda",), 2),
        record_path(tmp_path, one, CPU, 4),
    ]
    assert len(set(paths)) == 4
    assert record_path(tmp_path, one, CPU, 2) == paths[0]


@pytest.mark.parametrize("threads", [1, 2, 3, 6, 8])
def test_combinations_fill_the_budget_and_never_exceed_it(threads: int) -> None:
    found = combinations(threads, (1, 4))
    assert all(lanes * width <= threads for lanes, width, _ in found)
    assert {(threads, 1, 1), (1, threads, 4)} <= set(found)
    assert len(set(found)) == len(found)
