"""Tasks through HTTP: latency and rate of a warm no-op app, streams with many watchers, files, and a cold start.

    python benchmarks/tasks.py [--seconds 60] [--json FILE]

Starts a server of its own on a free port, with data in a temporary folder. Client and server share the machine.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

MIB = 1024 * 1024
NOOP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    number: int = 0
    times: int = 0
    pause: float = 0.0

class AppOutput(BaseAppOutput):
    number: int

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(number=given.number)

    async def count(self, given: AppInput) -> AppOutput:
        import asyncio
        for number in range(given.times):
            await asyncio.sleep(given.pause)
            yield AppOutput(number=number)
"""


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, 2),
    }


def seconds_between(task: dict[str, Any]) -> dict[str, float]:
    """From the submission to each status, by the server's own clock."""
    at = {event["status_name"]: datetime.fromisoformat(event["event_time"]).timestamp() for event in task["events"]}
    return {name: moment - at["received"] for name, moment in at.items()}


class Bench:
    def __init__(self, client: httpx2.AsyncClient, app: str) -> None:
        self.client = client
        self.app = app

    async def submit(self, function: str = "run", **given: Any) -> str:
        body = {"app": self.app, "function": function, "input": given}
        answer = await self.client.post("/run", json=body)
        while answer.status_code == 429:
            await asyncio.sleep(0.05)
            answer = await self.client.post("/run", json=body)
        task_id: str = answer.raise_for_status().json()["data"]["id"]
        return task_id

    async def follow(self, task_id: str) -> tuple[dict[str, Any], int, list[float]]:
        """The terminal frame, how many there were, and when each came."""
        came = []
        async with self.client.stream("GET", f"/tasks/{task_id}/stream") as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    came.append(time.perf_counter())
                    last = line
        return json.loads(last[5:]), len(came), came

    async def cold(self) -> dict[str, float]:
        task, _, _ = await self.follow(await self.submit())
        return {name: round(seconds * 1e3, 1) for name, seconds in seconds_between(task).items()}

    async def latency(self, count: int) -> dict[str, Any]:
        running, completed, seen = [], [], []
        for number in range(count):
            started = time.perf_counter()
            task, _, came = await self.follow(await self.submit(number=number))
            seen.append(came[-1] - started)
            at = seconds_between(task)
            running.append(at["running"])
            completed.append(at["completed"])
        return {
            "submit_to_running": percentiles(running),
            "submit_to_completed": percentiles(completed),
            "seen_by_the_client": percentiles(seen),
        }

    async def rate(self, seconds: float, clients: int) -> dict[str, float]:
        """Submissions as fast as they are taken, by so many clients, each waiting for the end of its own."""
        done = 0
        stop = time.perf_counter() + seconds

        async def client() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                await self.client.post("/run?wait=true", json={"app": self.app, "input": {"number": done}})
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        took = time.perf_counter() - started
        return {"tasks_per_second": round(done / took, 1), "seconds": round(took, 1), "clients": clients}

    async def fan_out(self, watchers: int) -> dict[str, float]:
        started = time.perf_counter()
        task_id = await self.submit("count", times=100, pause=0.02)
        found = await asyncio.gather(*(self.follow(task_id) for _ in range(watchers)))
        took = time.perf_counter() - started
        last = [came[-1] for _, _, came in found]
        frames = sum(count for _, count, _ in found)
        return {
            "watchers": watchers,
            "frames": frames,
            "frames_per_second": round(frames / took),
            "spread_of_the_last_frame_ms": round((max(last) - min(last)) * 1e3, 1),
        }

    async def files(self, mib: int) -> dict[str, float]:
        content = os.urandom(MIB) * mib
        record = (await self.client.post("/files", json={"files": [{"size": len(content)}]})).json()["data"][0]
        started = time.perf_counter()
        (await self.client.put(record["upload_url"], content=content)).raise_for_status()
        uploaded = time.perf_counter()
        size = 0
        async with self.client.stream("GET", record["uri"]) as response:
            async for chunk in response.aiter_raw(MIB):
                size += len(chunk)
        assert size == len(content)
        downloaded = time.perf_counter()
        return {
            "upload_mb_per_second": round(len(content) / 1e6 / (uploaded - started)),
            "download_mb_per_second": round(len(content) / 1e6 / (downloaded - uploaded)),
        }


async def measure(url: str, seconds: float) -> dict[str, Any]:
    limits = httpx2.Limits(max_connections=300, max_keepalive_connections=300)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:
        await ready(client)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("inf.yml", "name: noop\nnamespace: bench\n")
            archive.writestr("inference.py", NOOP)
        started = time.perf_counter()
        answer = await client.post("/apps", content=packed.getvalue())
        deployed = answer.raise_for_status().json()["data"]
        bench = Bench(client, deployed["ref"])
        results: dict[str, Any] = {
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
            "deploy_seconds": round(time.perf_counter() - started, 2),
            "cold_start_ms": await bench.cold(),
        }
        await bench.latency(50)
        results["warm"] = await bench.latency(300)
        results["rate"] = await bench.rate(seconds, 16)
        results["fan_out"] = await bench.fan_out(100)
        results["files"] = await bench.files(256)
        return results


async def ready(client: httpx2.AsyncClient) -> None:
    for _ in range(600):
        with suppress(httpx2.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.1)
    raise SystemExit("the server was not ready within a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        off = {f"MIEN_{name}_MODEL": "none" for name in ("AGE", "GENDER", "MASK", "IMAGE", "TEXT")}
        environment = {**os.environ, **off, "MIEN_DATA_DIR": folder, "MIEN_LOG_LEVEL": "warning"}
        server = subprocess.Popen([sys.executable, "-m", "mien", "serve", "--port", str(port)], env=environment)
        try:
            results = asyncio.run(measure(f"http://127.0.0.1:{port}", options.seconds))
        finally:
            server.terminate()
            server.wait(30)
    print(json.dumps(results, indent=2))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
