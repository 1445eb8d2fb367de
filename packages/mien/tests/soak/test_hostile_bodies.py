"""Hostile bodies of up to 64 MB against a running server: its memory, its event loop, and an honest client.

`pytest -s` shows the measurements.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from testing.hostile_bodies import attacks

MiB = 1024 * 1024
ATTACKERS = 4
ALONE = 200
"""Requests of the honest client before the attack."""
LAG = "mien_event_loop_lag_seconds"


class Honest:
    """A client that asks for embeddings of a text, one after the other, and measures."""

    def __init__(self, server: Any) -> None:
        self._client = httpx2.Client(base_url=server.url, timeout=60)
        self.seconds: list[float] = []

    def ask(self) -> None:
        started = time.perf_counter()
        body = {"service": "embedding", "payload": "aGVsbG8=", "payload_mime": "text/plain"}
        assert self._client.post("/v1/infer", json=body).status_code == 200
        self.seconds.append(time.perf_counter() - started)

    def p99(self) -> float:
        """Of the requests since the last call, in milliseconds."""
        measured, self.seconds = self.seconds, []
        return float(np.percentile(measured, 99)) * 1e3

    def close(self) -> None:
        self._client.close()


def send(server: Any, path: str, kind: str, body: bytes, headers: dict[str, str]) -> int:
    with httpx2.Client(base_url=server.url, timeout=120) as client:
        try:
            return client.post(path, content=body, headers={"Content-Type": kind, **headers}).status_code
        except httpx2.TransportError:
            return 0  # refused before the body was sent to its end


@pytest.mark.parametrize("size", [64 * 1024, MiB, 16 * MiB, 63 * MiB])
def test_hostile_bodies_hurt_nobody(serve: Callable[..., Any], size: int) -> None:
    """One kind after the other, to four routes at a time."""
    server = serve()
    honest = Honest(server)
    for _ in range(ALONE):
        honest.ask()
    alone, rows = honest.p99(), []
    server.metric(LAG)
    attack = list(attacks(size))
    for name in dict.fromkeys(name for name, _, _ in attack):
        before = server.rss_mb()
        highest, statuses = before, []
        todo = iter([(path, body) for kind, path, body in attack if kind == name])

        def work(todo: Iterator[Any] = todo, statuses: list[int] = statuses) -> None:
            for path, (kind, body, headers) in todo:
                statuses.append(send(server, path, kind, body, headers))

        attackers = [threading.Thread(target=work) for _ in range(ATTACKERS)]
        for attacker in attackers:
            attacker.start()
        while any(attacker.is_alive() for attacker in attackers):
            honest.ask()
            highest = max(highest, server.rss_mb())
        rows.append((name, highest - before, server.metric(LAG) * 1e3, honest.p99(), sorted(set(statuses))))
        assert not [status for status in statuses if status >= 500], (name, statuses)
    honest.close()
    report = [f"{size / MiB:g} MB, {ATTACKERS} at a time; p99 of the honest client alone {alone:.0f} ms"]
    for name, grown, lag, p99, statuses in rows:
        report.append(
            f"{name:26} +{grown:5.0f} MB  loop {lag:5.0f} ms  p99 {p99:5.0f} ms = {p99 / alone:4.1f}x {statuses}"
        )
    sys.stdout.write("\n" + "\n".join(report) + "\n")
    assert max(grown for _, grown, *_ in rows) <= 2 * ATTACKERS * size / MiB + 64
