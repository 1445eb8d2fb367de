"""The counts of `/v1/infer` that `/v1/metrics` reports: responses, streams included."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from mien.http.lumen.schema import TrafficCounts

SMOOTHING = 0.1  # weight of the newest latency in the moving average
WINDOW_SECONDS = 60.0
WINDOW_RESPONSES = 100_000


@dataclass
class Outcome:
    """The outcome of one response."""

    traffic: "Traffic"
    started: float
    over: bool = False
    """Whether it has been counted, or is counted elsewhere."""

    def finish(self, *, good: bool) -> None:
        """Count the response, once."""
        if not self.over:
            self.over = True
            self.traffic.record(good, time.monotonic() - self.started)

    def hand_over(self) -> "Outcome":
        """The same response, to be finished by a stream; the block of `measured` then does not count it."""
        self.over = True
        return Outcome(self.traffic, self.started)


class Traffic:
    """Counts of one server. Used from the event loop only."""

    def __init__(self) -> None:
        self.total = 0
        self.good = 0
        self._latency = 0.0
        self._recent: deque[float] = deque(maxlen=WINDOW_RESPONSES)
        self._last = time.time()

    @contextmanager
    def measured(self) -> Iterator[Outcome]:
        """Count the block as one response, a failed one if it raises."""
        outcome = Outcome(self, time.monotonic())
        try:
            yield outcome
        except BaseException:
            outcome.finish(good=False)
            raise
        outcome.finish(good=True)

    def record(self, good: bool, seconds: float) -> None:
        self._latency = seconds if self.total == 0 else self._latency + SMOOTHING * (seconds - self._latency)
        self.total += 1
        self._last = time.time()
        if good:
            self.good += 1
            self._recent.append(time.monotonic())

    def shape(self) -> TrafficCounts:
        """Under the names of both generations of the protocol; latencies in nanoseconds."""
        failed = self.total - self.good
        start = time.monotonic() - WINDOW_SECONDS
        while self._recent and self._recent[0] < start:
            self._recent.popleft()
        latency = round(self._latency * 1e9)
        return {
            "total_requests": self.total,
            "successful_requests": self.good,
            "success_requests": self.good,
            "failed_requests": failed,
            "error_rate": failed / self.total if self.total else 0.0,
            "average_latency": latency,
            "average_latency_ns": latency,
            "throughput_qps": len(self._recent) / WINDOW_SECONDS,
            "last_updated": datetime.fromtimestamp(self._last, UTC).isoformat(timespec="milliseconds"),
        }
