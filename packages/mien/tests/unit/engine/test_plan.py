"""Plans: settings take precedence over measurements, those over defaults; the thread budget is never exceeded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.engine.plan import Plan, choose_plan, default_plan, provider_names, thread_budget
from mien.errors import ModelError
from mien.machine import usable_cores
from mien.settings import Execution

TUNED = Plan(lanes=1, lane_threads=4, max_batch=8)


def test_without_a_measurement_a_cpu_gets_one_thread_lanes_without_batches() -> None:
    assert choose_plan(Execution(threads=4), None) == Plan(lanes=4, lane_threads=1, max_batch=1)


def test_without_a_measurement_a_gpu_gets_batches() -> None:
    assert default_plan(Execution(threads=4, providers=("cuda", "cpu"))).max_batch == 32


def test_a_measurement_wins_over_the_default() -> None:
    assert choose_plan(Execution(threads=4), TUNED) == TUNED


@pytest.mark.parametrize(
    ("given_settings", "expected"),
    [
        ({"lanes": 3}, Plan(3, 4, 8)),
        ({"lane_threads": 2}, Plan(1, 2, 8)),
        ({"max_batch": 2}, Plan(1, 4, 2)),
        ({"lanes": 2, "lane_threads": 2, "max_batch": 16}, Plan(2, 2, 16)),
    ],
)
def test_each_setting_wins_over_the_measurement(given_settings: dict[str, int], expected: Plan) -> None:
    assert choose_plan(Execution(threads=4, **given_settings), TUNED) == expected


def test_a_measurement_for_more_threads_than_the_budget_is_cut_down() -> None:
    assert choose_plan(Execution(threads=2), Plan(4, 4, 8)) == Plan(1, 2, 8)


@given(
    threads=st.integers(1, 16),
    lane_threads=st.none() | st.integers(1, 32),
    tuned=st.none() | st.builds(Plan, st.integers(1, 32), st.integers(1, 32), st.integers(1, 64)),
)
def test_every_plan_can_run_under_its_budget(threads: int, lane_threads: int | None, tuned: Plan | None) -> None:
    plan = choose_plan(Execution(threads=threads, lane_threads=lane_threads), tuned)
    assert plan.lanes >= 1
    assert plan.lane_threads * plan.lanes <= threads


def test_the_budget_is_the_usable_cores_unless_set() -> None:
    assert thread_budget(Execution()) == usable_cores()
    assert thread_budget(Execution(threads=7)) == 7


def test_providers_become_the_runtimes_names() -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert provider_names(("cuda", "cpu"), available) == available


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("gpu",), "MIEN_PROVIDERS: gpu; there are: cpu, cuda"),
        ((), "MIEN_PROVIDERS: empty"),
        (("cuda", "cpu"), "MIEN_PROVIDERS: cuda is not in the installed ONNX Runtime"),
        (("openvino", "cpu"), "MIEN_PROVIDERS: openvino is no longer supported: it is slower than cpu"),
    ],
)
def test_a_provider_that_is_not_here_is_named(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        provider_names(names, ["CPUExecutionProvider"])
