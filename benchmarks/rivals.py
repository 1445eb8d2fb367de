"""Ways of doing the same thing, measured in turn."""

import random
import statistics
import time
from collections.abc import Callable


def medians(rivals: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, called in turn in changing order; a tenth more rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(-max(5, rounds // 10), rounds):
        for name in random.sample(list(rivals), len(rivals)):
            started = time.perf_counter()
            rivals[name]()
            if number >= 0:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}
