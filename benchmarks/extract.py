"""`POST /extract` beside its ceiling, in one run: `make bench`.

Ceiling: the same models on the same tensors, already decoded and prepared, driven directly in ONNX Runtime at the best
lanes, threads and batch size that were found. The server additionally reads HTTP, decodes JPEG, resizes, cuts out
faces and writes the answer, on the same cores, and so does the load generator here. Rounds are interleaved; medians
over the rounds count.

At concurrency 1 the server is compared with the direct pipeline: from JPEG bytes to vectors in a plain loop, no server.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnxruntime as ort
import ormsgpack
import psutil
from rich.console import Console
from rich.table import Table

from mien.builtin import load_inference, open_fetcher
from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.engine.plan import Plan
from mien.engine.session import Session
from mien.faces.pipeline import FaceOptions
from mien.machine import usable_cores
from mien.metrics import Metrics
from mien.settings import Settings
from mien.vision.photo import Photo
from mien.zoo.zoo import Zoo

PHOTOS = Path(__file__).parent.parent / "packages/mien/tests/photos"
OPTIONS = FaceOptions(threshold=0.6)
ROUND_SECONDS = 3.0
ROUNDS = 3
console = Console()


@dataclass(frozen=True)
class Load:
    """One way of asking."""

    concurrency: int
    images: int


@dataclass(frozen=True)
class Sample:
    """What one round of one load showed. Times in milliseconds."""

    images_per_second: float
    p50: float
    p95: float
    p99: float
    server_cpu_ms: float
    """CPU time of the server per image."""
    client_cpu_ms: float
    """CPU time of this load generator per image."""


def collage(columns: int = 4, rows: int = 3, height: int = 300) -> bytes:
    """Many faces in one image: the test portraits, pasted side by side."""
    portraits = [cv2.imread(str(path)) for path in sorted(PHOTOS.glob("*.jpg"))]
    size = (height * 4 // 5, height)
    tiles = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in portraits if p is not None]
    grid = [
        np.hstack([tiles[(row * columns + column) % len(tiles)] for column in range(columns)]) for row in range(rows)
    ]
    return cv2.imencode(".jpg", np.vstack(grid), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


# --- the ceiling


class Recorder:
    """Stands in for a loaded model and keeps the tensors that the pipeline hands it."""

    def __init__(self, model: Model) -> None:
        self.model, self.plan = model, model.plan
        self.seen: list[np.ndarray] = []

    def run(self, items: list[np.ndarray], call: CancelScope) -> list[dict[str, np.ndarray]]:
        self.seen.extend(np.ascontiguousarray(item) for item in items)
        return self.model.run(items, call)


def recording(owner: object, attribute: str) -> "Recorder":
    """What an attribute, which is a model, is asked from now on."""
    recorder = Recorder(getattr(owner, attribute))
    setattr(owner, attribute, recorder)
    return recorder


def recorded(data: bytes, settings: Settings) -> tuple[list[tuple[str, np.ndarray]], int]:
    """The (model file, tensor) pairs of one image's way through the pipeline, and its number of faces."""
    inference = load_inference(settings, Metrics(), open_fetcher(settings), Admission.from_settings(settings.limits))
    pipeline = inference.builtin.pipeline
    zoo = Zoo.from_settings(settings)
    recognisers = pipeline.recognisers
    recorders = [
        (recording(pipeline._detection, "_model"), str(zoo.locate(settings.models.detector))),
        (recording(pipeline._refinement, "_model"), str(zoo.locate(settings.models.detector))),
        (Recorder(recognisers.default.model), str(zoo.locate(settings.models.recogniser))),
    ]
    recognisers.default = replace(recognisers.default, model=cast(Model, recorders[-1][0]))
    image = Photo.open(data, max_pixels=settings.limits.max_pixels, max_bytes=settings.limits.max_image_bytes)
    faces = len(pipeline.analyse(image, OPTIONS, CancelScope()).faces)
    asyncio.run(inference.close())
    return [(path, tensor) for recorder, path in recorders for tensor in recorder.seen], faces


class Ceiling:
    """Drives recorded tensors through plain sessions. One *step* is one image's worth of model runs."""

    def __init__(self, runs: list[tuple[str, np.ndarray]], lanes: int, threads: int, batch: int) -> None:
        self.lanes, self.threads, self.batch = lanes, threads, batch
        paths = {path for path, _ in runs}
        self._sessions = [{path: Session(Path(path), threads=threads) for path in paths} for _ in range(lanes)]
        # `batch` images at a time: equal shapes of all of them share a run
        groups: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
        for path, tensor in runs:
            groups.setdefault((path, tensor.shape), []).extend([tensor] * batch)
        self._runs = [
            (path, np.stack(tensors[i : i + max(batch, 1)]))
            for (path, _), tensors in groups.items()
            for i in range(0, len(tensors), max(batch, 1))
        ]

    def images_per_second(self, seconds: float) -> float:
        def lane(index: int) -> int:
            sessions, done = self._sessions[index], 0
            while time.perf_counter() < end:
                for path, tensor in self._runs:
                    sessions[path].run(tensor)
                done += self.batch
            return done

        start = time.perf_counter()
        end = start + seconds
        with ThreadPoolExecutor(self.lanes) as pool:
            done = sum(pool.map(lane, range(self.lanes)))
        return done / (time.perf_counter() - start)


def best_ceiling(runs: list[tuple[str, np.ndarray]], cores: int) -> Ceiling:
    """The fastest of lanes × threads × batch for these tensors on this machine."""
    combinations = [(max(1, cores // threads), threads, batch) for threads in {1, cores} for batch in (1, 4)]
    candidates = [Ceiling(runs, *combination) for combination in combinations]
    rates: dict[int, list[float]] = {index: [] for index in range(len(candidates))}
    for _ in range(2):
        for index, candidate in enumerate(candidates):
            rates[index].append(candidate.images_per_second(1.5))
    return candidates[max(rates, key=lambda index: statistics.median(rates[index]))]


# --- the direct pipeline


def direct_pipeline(data: bytes, settings: Settings, plan: Plan) -> Callable[[], float]:
    """A function that takes one image from JPEG bytes to vectors and returns the milliseconds that it took."""
    chosen = Settings(lanes=plan.lanes, lane_threads=plan.lane_threads, max_batch=plan.max_batch)
    admission = Admission.from_settings(chosen.limits)
    pipeline = load_inference(chosen, Metrics(), open_fetcher(chosen), admission).builtin.pipeline

    def once() -> float:
        start = time.perf_counter()
        image = Photo.open(data, max_pixels=settings.limits.max_pixels, max_bytes=settings.limits.max_image_bytes)
        pipeline.analyse(image, OPTIONS, CancelScope())
        return (time.perf_counter() - start) * 1e3

    return once


# --- the server and its load


@contextmanager
def server(port: int) -> Iterator[psutil.Process]:
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "MIEN_DATA_DIR": data, "MIEN_LOG_LEVEL": "warning"}
        command = [sys.executable, "-m", "mien", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment)
        try:
            for _ in range(600):
                probe = subprocess.run(
                    ["curl", "-sf", f"http://127.0.0.1:{port}/readyz"], capture_output=True, check=False
                )
                if probe.returncode == 0:
                    break
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def request_bytes(data: bytes, images: int, port: int) -> bytes:
    body = ormsgpack.packb({"images": {"data": [data] * images}})
    head = (
        f"POST /extract HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/msgpack\r\n"
        f"Accept: application/x-msgpack\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def one_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server answered {head[:200]!r}")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(length)


async def drive(load: Load, request: bytes, port: int, faces: int, seconds: float) -> tuple[int, list[float]]:
    """Closed loop: each of the load's connections sends its next request when the last one is answered."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        first = True
        while time.perf_counter() < end:
            start = time.perf_counter()
            answer = await one_request(reader, writer, request)
            times.append((time.perf_counter() - start) * 1e3)
            if first:
                found = [len(image["faces"]) for image in ormsgpack.unpackb(answer)["data"]]
                assert found == [faces] * load.images, f"expected {faces} faces in each image, found {found}"
                first = False
        writer.close()

    await asyncio.gather(*(client() for _ in range(load.concurrency)))
    return len(times) * load.images, times


def cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def measure(load: Load, request: bytes, port: int, faces: int, process: psutil.Process, seconds: float) -> Sample:
    mine = psutil.Process()
    before, before_mine, start = cpu(process), cpu(mine), time.perf_counter()
    images, times = asyncio.run(drive(load, request, port, faces, seconds))
    took = time.perf_counter() - start
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return Sample(
        images / took, p50, p95, p99, (cpu(process) - before) / images * 1e3, (cpu(mine) - before_mine) / images * 1e3
    )


def median(samples: list[Sample]) -> Sample:
    return Sample(*(statistics.median(values) for values in zip(*(asdict(s).values() for s in samples), strict=True)))


def compare(name: str, data: bytes, loads: list[Load], port: int, seconds: float, rounds: int) -> dict[str, object]:
    """Ceiling and every load in turn, `rounds` times; prints a table."""
    settings = Settings()
    cores = usable_cores()
    runs, faces = recorded(data, settings)
    ceiling = best_ceiling(runs, cores)
    narrow = direct_pipeline(data, settings, Plan(cores, 1, 1))
    wide = direct_pipeline(data, settings, Plan(1, cores, 1))
    ceilings: list[float] = []
    directs: list[float] = []
    wides: list[float] = []
    samples: dict[Load, list[Sample]] = {load: [] for load in loads}
    with server(port) as process:
        for _ in range(rounds):
            for load in loads:
                ceilings.append(ceiling.images_per_second(seconds / 2))
                directs += [narrow() for _ in range(20)]
                wides += [wide() for _ in range(20)]
                request = request_bytes(data, load.images, port)
                samples[load].append(measure(load, request, port, faces, process, seconds))
    best = statistics.median(ceilings)
    direct, direct_wide = statistics.median(directs), statistics.median(wides)
    table = Table(
        "conc.", "images/req", "images/s", "of ceiling", "p50 ms", "p95", "p99", "server CPU ms/image", "client"
    )
    for load in loads:
        s = median(samples[load])
        table.add_row(
            str(load.concurrency),
            str(load.images),
            f"{s.images_per_second:.1f}",
            f"{s.images_per_second / best:.2f}",
            f"{s.p50:.1f}",
            f"{s.p95:.1f}",
            f"{s.p99:.1f}",
            f"{s.server_cpu_ms:.1f}",
            f"{s.client_cpu_ms:.2f}",
        )
    console.print(f"\n[bold]{name}[/]: {faces} faces, {len(data) / 1e3:.0f} kB")
    console.print(
        f"ceiling {best:.1f} images/s ({ceiling.lanes} lanes x {ceiling.threads} threads, batch {ceiling.batch}; "
        f"rounds {min(ceilings):.0f}..{max(ceilings):.0f})"
    )
    single = median(samples[loads[0]])
    console.print(
        f"direct pipeline p50 {direct:.1f} ms on 1-thread sessions ({direct_wide:.1f} on {cores}-thread ones); "
        f"server at concurrency 1: {single.p50:.1f} ms = {single.p50 / direct:.2f} x ({single.p50 / direct_wide:.2f} x)"
    )
    console.print(table)
    return {
        "name": name,
        "faces": faces,
        "ceiling": best,
        "ceilings": ceilings,
        "direct_ms": direct,
        "direct_wide_ms": direct_wide,
        "loads": [{**asdict(load), **asdict(median(samples[load]))} for load in loads],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="length of one round of one load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--port", type=int, default=18480)
    parser.add_argument("--quick", action="store_true", help="concurrency 1 and 8 on the portrait only")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    loads = [Load(c, n) for n in (1, 16) for c in (1, 8, 32)]
    cases = {
        "portrait 716x900": (PHOTOS / "person_b_1.jpg").read_bytes(),
        "small portrait 204x244": (PHOTOS / "person_a_1.jpg").read_bytes(),
        "collage 960x900": collage(),
    }
    if arguments.quick:
        loads, cases = [Load(1, 1), Load(8, 1)], dict([next(iter(cases.items()))])
    console.print(
        f"{platform.processor() or platform.machine()}, {usable_cores()} cores, load {os.getloadavg()[0]:.2f}, "
        f"Python {platform.python_version()}, ONNX Runtime {ort.__version__}"
    )
    results = [
        compare(name, data, loads, arguments.port, arguments.seconds, arguments.rounds) for name, data in cases.items()
    ]
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "extract.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
