"""A first look at a GPU: is ONNX Runtime on it, what do the two face models make of it, and what does the server?

    MIEN_PROVIDERS=cuda,cpu python benchmarks/gpu.py [--section ceiling] [--seconds 5] [--results FILE]

Needs no network: the face models come with Mien. `MIEN_PROVIDERS=cpu` tries the script out without a GPU. Figures are
printed as soon as they are there and written after each section: a run that is cut short still shows something.

environment: versions, providers and cores.
ceiling: items per second of each model alone, by batch, and how far its answers are from the CPU's. On CUDA also
without TF32, which ONNX Runtime uses for convolutions unless it is told not to.
served: images per second through `POST /extract`, with the load generator on the same machine.
"""

import argparse
import base64
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mien import __version__
from mien.engine.plan import provider_names
from mien.faces.loading import detection_shape
from mien.inference.loading import input_shape
from mien.settings import Settings
from mien.zoo.manifest import Manifest
from mien.zoo.zoo import Zoo

BATCHES = (1, 8, 32, 64)
LOADS = ((1, 1), (16, 1), (8, 16), (16, 32))  # clients, images per request
START_SECONDS = 300  # a GPU's first start loads gigabytes of libraries
Figures = dict[str, Any]


def environment(settings: Settings, _options: argparse.Namespace) -> Iterator[Figures]:
    yield {
        "mien": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "onnxruntime": ort.__version__,
        "available": ort.get_available_providers(),
        "wanted": list(settings.execution.providers),
    }


# --- the ceiling


def ceiling(settings: Settings, options: argparse.Namespace) -> Iterator[Figures]:
    wanted = provider_names(settings.execution.providers, ort.get_available_providers())[0]
    variants: list[tuple[str, Any]] = [(wanted, wanted)]
    if wanted == "CUDAExecutionProvider":
        variants.append((f"{wanted}, no TF32", (wanted, {"use_tf32": "0"})))
    zoo = Zoo.from_settings(settings)
    for name in (settings.models.detector, settings.models.recogniser):
        for label, provider in variants:
            for batch in BATCHES:
                about = {"model": name, "provider": label, "batch": batch}
                yield about | measured(
                    zoo.locate(name), item_shape(zoo.manifest(name), settings), provider, batch, options
                )


def item_shape(manifest: Manifest, settings: Settings) -> tuple[int, int, int]:
    """One item as the server warms the model with it."""
    return (
        detection_shape(settings.models.detection_size)
        if manifest.task == "face_detection"
        else input_shape(manifest, 112)
    )


def measured(path: Path, shape: tuple[int, ...], provider: Any, batch: int, options: argparse.Namespace) -> Figures:
    session = ort.InferenceSession(str(path), providers=[provider])
    name = provider if isinstance(provider, str) else provider[0]
    if session.get_providers()[0] != name:  # ONNX Runtime falls back to the CPU without an error
        return {"error": f"runs on {session.get_providers()[0]}"}
    feed = session.get_inputs()[0].name
    items = np.random.default_rng(1).random((batch, *shape), np.float32) * 255
    try:
        answers = session.run(None, {feed: items})
    except Exception as error:  # noqa: BLE001 - out of memory, say: the next batch or model may still do
        return {"error": " ".join(str(error).split())[:200]}
    cpu = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = cpu.run(None, {feed: items[:1]})
    for _ in range(3):
        session.run(None, {feed: items})
    rounds, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < options.seconds / 2:
        session.run(None, {feed: items})
        rounds += 1
    return {
        "per_second": round(rounds * batch / took, 1),
        "least_cosine_to_cpu": round(min(cosine(a[:1], b) for a, b in zip(answers, expected, strict=True)), 6),
        "largest_difference_to_cpu": float(
            max(np.abs(a[:1] - b).max() for a, b in zip(answers, expected, strict=True))
        ),
    }


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    return float(x @ y) / max(lengths, 1e-12)


# --- the server


def served(_settings: Settings, options: argparse.Namespace) -> Iterator[Figures]:
    photo = (
        options.photo.read_bytes() if options.photo else (resources.files("mien") / "data/portrait.jpg").read_bytes()
    )
    image = base64.b64encode(photo).decode()
    with server() as port:
        for clients, images in LOADS:
            body = json.dumps({"images": {"data": [image] * images}}).encode()
            yield {"clients": clients, "images": images} | loaded(port, body, clients, images, options.seconds)


@contextmanager
def server() -> Iterator[int]:
    """The port of a server that is ready, with a data folder of its own. Its log is the error if it does not start."""
    with tempfile.TemporaryDirectory(prefix="mien-gpu-") as folder, tempfile.TemporaryFile() as log:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "mien", "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env={**os.environ, "MIEN_DATA_DIR": folder}, stdout=log, stderr=log)
        try:
            if not ready(port, process):
                log.seek(0)
                raise RuntimeError(f"the server did not become ready: {log.read().decode(errors='replace')[-2000:]}")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ready(port: int, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return True
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    return False


def loaded(port: int, body: bytes, clients: int, images: int, seconds: float) -> Figures:
    """What `clients` get that send the same request again and again."""
    latencies: list[float] = []
    statuses: list[int] = []
    until = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (sent := time.perf_counter()) < until:
            connection.request("POST", "/extract", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            if response.status == 200:
                latencies.append(time.perf_counter() - sent)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    p50, p99 = (np.percentile(latencies, [50, 99]) * 1e3).round(1).tolist() if latencies else (None, None)
    refused = sum(status != 200 for status in statuses)
    return {
        "images_per_second": round(len(latencies) * images / took, 1),
        "p50_ms": p50,
        "p99_ms": p99,
        "refused": refused,
    }


# --- putting it together

SECTIONS: dict[str, Callable[[Settings, argparse.Namespace], Iterator[Figures]]] = {
    "environment": environment,
    "ceiling": ceiling,
    "served": served,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", choices=SECTIONS, help="may be repeated; default: all")
    parser.add_argument("--seconds", type=float, default=5, help="of each load; half of it for each batch")
    parser.add_argument("--photo", type=Path, help="default: the portrait that comes with Mien")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    options = parser.parse_args()
    settings = Settings()
    results: dict[str, list[Figures]] = {}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    for section in options.section or SECTIONS:
        rows: list[Figures] = []
        results[section] = rows
        try:
            for figures in SECTIONS[section](settings, options):
                print(json.dumps({"section": section} | figures), flush=True)
                rows.append(figures)
        except Exception as error:  # noqa: BLE001 - the sections after it do not depend on it
            print(json.dumps({"section": section, "error": str(error)}), flush=True)
            rows.append({"error": str(error)})
        options.results.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
