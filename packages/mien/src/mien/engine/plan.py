"""How a model runs on this machine: number of lanes, threads per lane, maximum batch size."""

from dataclasses import dataclass

from mien.errors import ModelError
from mien.machine import usable_cores
from mien.settings import Execution

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
DROPPED = {"openvino": "it is slower than cpu, also with its options"}
GPU_BATCH = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """One model's lanes (batches that run concurrently), threads per lane and maximum batch size."""

    lanes: int
    lane_threads: int
    max_batch: int


def thread_budget(execution: Execution) -> int:
    """Number of threads that the models of this process may keep busy in total."""
    return execution.threads or usable_cores()


def default_plan(execution: Execution) -> Plan:
    """The plan without a measurement: single-threaded lanes on a CPU, a few lanes with large batches on a GPU."""
    if execution.providers[0] == "cpu":
        return Plan(lanes=thread_budget(execution), lane_threads=1, max_batch=1)
    return Plan(lanes=2, lane_threads=1, max_batch=GPU_BATCH)


def choose_plan(execution: Execution, tuned: Plan | None) -> Plan:
    """The plan for a model: settings take precedence over the measurement, which takes precedence over the default."""
    base = tuned or default_plan(execution)
    budget = thread_budget(execution)
    lane_threads = min(execution.lane_threads or base.lane_threads, budget)
    lanes = execution.lanes or min(base.lanes, max(1, budget // lane_threads))
    return Plan(lanes=lanes, lane_threads=lane_threads, max_batch=execution.max_batch or base.max_batch)


def provider_names(names: tuple[str, ...], available: list[str]) -> list[str]:
    """ONNX Runtime's names for the providers in a setting. Raises ModelError for unknown or unavailable ones."""
    for name in names:
        if name in DROPPED:
            raise ModelError(f"MIEN_PROVIDERS: {name} is no longer supported: {DROPPED[name]}; use cpu")
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        raise ModelError(f"MIEN_PROVIDERS: {', '.join(unknown) or 'empty'}; there are: {', '.join(PROVIDERS)}")
    missing = [name for name in names if PROVIDERS[name] not in available]
    if missing:
        raise ModelError(
            f"MIEN_PROVIDERS: {', '.join(missing)} is not in the installed ONNX Runtime, which has "
            f"{', '.join(available)}; install the onnxruntime build for it"
        )
    return [PROVIDERS[name] for name in names]
