"""Tuning: measures once which lanes, threads and batch size are best for a model on this machine."""

import hashlib
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mien.atomic import replace_file
from mien.engine.plan import Plan
from mien.engine.session import Feed, Session
from mien.zoo.records import sha256_of

ROUND_SECONDS = 0.4
ROUNDS = 3
WORTHWHILE = 1.05  # a larger batch must be faster by this factor, since it costs latency


class Measurement(msgspec.Struct, frozen=True):
    """The throughput of one combination."""

    lanes: int
    lane_threads: int
    batch: int
    items_per_second: float

    @property
    def plan(self) -> Plan:
        """The plan for this combination."""
        return Plan(self.lanes, self.lane_threads, self.batch)


class Tuning(msgspec.Struct, frozen=True):
    """All measurements of one model on one machine, and the resulting plan."""

    plan: Plan
    measurements: tuple[Measurement, ...]


def machine_id(providers: tuple[str, ...]) -> str:
    """A hash of what determines a measurement: processor, cores, ONNX Runtime version, providers."""
    facts = (platform.machine(), _processor(), ort.__version__, *providers)
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        return f"{lines[0] if lines else ''} x {len(lines)}"
    return platform.processor()


def record_path(cache_dir: Path, model_file: Path, providers: tuple[str, ...], threads: int) -> Path:
    """Where the tuning of this model file on this machine is stored."""
    digest = sha256_of(model_file)[:16]
    return cache_dir / "tuning" / machine_id(providers) / f"{digest}-{threads}.json"


def recall(path: Path) -> Plan | None:
    """The stored plan; None if there is none or it is invalid."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Tuning).plan
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return plan if min(plan.lanes, plan.lane_threads, plan.max_batch) >= 1 else None


def remember(path: Path, tuning: Tuning) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(tuning)), mode=0o644)


def combinations(threads: int, batches: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Combinations (lanes, threads per lane, batch) that use the budget: from many narrow lanes to one wide lane."""
    widths = sorted({1, threads, *(w for w in (2, 4, 8) if w <= threads)})
    return [(max(1, threads // width), width, batch) for width in widths for batch in batches]


def measure(
    path: Path,
    shape: tuple[int, ...],
    *,
    threads: int,
    providers: tuple[str, ...] = ("cpu",),
    batches: tuple[int, ...] = (1, 2, 4, 8),
    feed: Feed | None = None,
) -> Tuning:
    """Measure the throughput of every combination on random items of `shape`: the median of interleaved rounds.

    With a `feed`, items are int64 ones: tokens that every vocabulary has.
    """
    tried = combinations(threads, batches)
    sessions = {
        (lanes, width): [
            Session(path, threads=width, providers=providers, feed=feed) for _ in range(1 if width == 1 else lanes)
        ]
        for lanes, width, _ in tried
    }
    if not next(iter(sessions.values()))[0].batchable:
        tried = [combo for combo in tried if combo[2] == 1]
    item: NDArray[Any] = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    if feed is not None:
        item = np.ones(shape, np.int64)
    rates: dict[tuple[int, int, int], list[float]] = {combo: [] for combo in tried}
    for _ in range(ROUNDS):
        for lanes, width, batch in tried:
            runners = sessions[lanes, width]
            rates[lanes, width, batch].append(throughput(runners, lanes, np.stack([item] * batch), ROUND_SECONDS))
    found = tuple(Measurement(*combo, float(np.median(rate))) for combo, rate in rates.items())
    return Tuning(choose(found), found)


def throughput(sessions: list[Session], lanes: int, batch: NDArray[Any], seconds: float) -> float:
    """Items per second of `lanes` threads that each run `batch` in a loop."""
    for session in sessions:
        session.run(batch)

    def lane(index: int) -> int:
        session, count = sessions[index % len(sessions)], 0
        while time.perf_counter() < end:
            session.run(batch)
            count += len(batch)
        return count

    start = time.perf_counter()
    end = start + seconds
    with ThreadPoolExecutor(lanes) as pool:
        items = sum(pool.map(lane, range(lanes)))
    return items / (time.perf_counter() - start)


def choose(found: tuple[Measurement, ...]) -> Plan:
    """The fastest combination; among nearly equal ones, the smallest batch, then the most lanes."""
    best = max(m.items_per_second for m in found)
    good = [m for m in found if m.items_per_second * WORTHWHILE >= best]
    pick = min(good, key=lambda m: (m.batch, -m.lanes, -m.items_per_second))
    return pick.plan
