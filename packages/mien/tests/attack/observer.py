"""Watches a server from a process of its own: `observer.py PORT PID KEY PHOTO`.

Every line that it reads ends a period, whose figures it prints as a line of JSON.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

PAUSES = {"memory": 0.005, "loop": 0.01, "honest": 0.05}
PATIENCE = 60.0


class Connection:
    """One that is opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._http: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[float, int]:
        """Seconds and status; 0 if there was no answer."""
        started = time.perf_counter()
        try:
            if self._http is None:
                self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            if self._http is not None:
                self._http.close()
            self._http, status = None, 0
        return time.perf_counter() - started, status


class Observer:
    def __init__(self, port: int, pid: int, key: str, photo: bytes) -> None:
        self._process = psutil.Process(pid)
        self._probe, self._client = Connection(port), Connection(port)
        self._photo = photo
        self._headers = {"Content-Type": "image/jpeg", **({"X-API-Key": key} if key else {})}
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._before = self._highest = self._rss()
        self._lags: list[float] = []
        self._honest: list[float] = []
        self._refused = 0

    def _rss(self) -> float:
        try:
            return float(self._process.memory_info().rss) / 1e6
        except psutil.NoSuchProcess:
            return 0.0

    def memory(self) -> None:
        with self._lock:
            self._highest = max(self._highest, self._rss())

    def loop(self) -> None:
        seconds, status = self._probe.ask("GET", "/livez", None, {})
        with self._lock:
            if status == 200:
                self._lags.append(seconds)

    def honest(self) -> None:
        seconds, status = self._client.ask("POST", "/v1/infer?service=face_detection", self._photo, self._headers)
        with self._lock:
            if status == 200:
                self._honest.append(seconds)
            else:
                self._refused += 1

    def period(self) -> dict[str, float]:
        """Since the last one: MB, milliseconds, and how many honest requests were not answered with 200."""
        with self._lock:
            p50, p99 = np.percentile(self._honest or [float("nan")], [50, 99]) * 1e3
            found = {
                "grown_mb": self._highest - self._before,
                "lag_ms": max(self._lags, default=float("nan")) * 1e3,
                "p50_ms": float(p50),
                "p99_ms": float(p99),
                "asked": len(self._honest) + self._refused,
                "refused": self._refused,
            }
            self._begin()
        return found


def repeat(work: Callable[[], None], pause: float) -> None:
    while True:
        work()
        time.sleep(pause)


def main() -> None:
    port, pid, key, photo = sys.argv[1:]
    observer = Observer(int(port), int(pid), key, Path(photo).read_bytes())
    for name, pause in PAUSES.items():
        threading.Thread(target=repeat, args=(getattr(observer, name), pause), daemon=True).start()
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(observer.period()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
