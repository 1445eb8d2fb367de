"""`mien demo`: starts a server in its own process, sends it a photo over HTTP, and prints the faces."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.table import Table

from ifr_clients import IFRClient
from mien.cli.face_outputs import add_face, face_table
from mien.cli.output import err, out
from mien.cli.pulling import pull_needed
from mien.config.names import PREFIX, variable
from mien.errors import Unavailable
from mien.settings import Settings, Variables
from mien.zoo.selection import age_gender_models, mask_models
from mien.zoo.zoo import Zoo

START_SECONDS = 120.0
STOP_SECONDS = 15.0


def run_demo(settings: Settings, output: Path) -> None:
    """Print the faces of the built-in photo and save an annotated copy. Leaves nothing running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds the blocks below, which stop the server
    pull_needed(settings)
    zoo = Zoo.from_settings(settings)
    traits, masks = _all_here(zoo, age_gender_models(settings.models)), _all_here(zoo, mask_models(settings.models))
    photo = resources.files("mien").joinpath("data/demo.jpg").read_bytes()
    with _server(settings) as port, IFRClient(host="http://127.0.0.1", port=port) as client:
        started = time.perf_counter()
        answer = client.extract(data=[photo], mode="data", extract_ga=traits, detect_masks=masks)
        took = (time.perf_counter() - started) * 1e3
        drawn = client.draw(photo, mode="data")
    output.mkdir(parents=True, exist_ok=True)
    target = output / "faces.jpg"
    target.write_bytes(drawn)
    faces = answer["data"][0]["faces"]
    out.print(_faces_table(faces))
    out.print(_similarity_table(faces))
    out.print(f"{len(faces)} faces, each with {len(faces[0]['vec'])} dimensions, in {took:.0f} ms by POST /extract")
    out.print(f"Annotated photo: {target}")
    if not (traits and masks):
        out.print("Age, gender and mask need three more models: [bold]mien models pull faces[/]")
    out.print("Now start your own server: [bold]make serve[/], or [bold].venv/bin/mien serve[/]")


def _all_here(zoo: Zoo, names: list[str]) -> bool:
    return all(zoo.find(name) is not None for name in names)


@contextmanager
def _server(settings: Settings) -> Iterator[int]:
    """The port of a ready server, which is stopped at the end of the block. Prints its log if it fails."""
    with tempfile.TemporaryDirectory(prefix="mien-demo-") as folder, tempfile.TemporaryFile() as log:
        environment = {**_environment(settings), "MIEN_DATA_DIR": folder, "MIEN_LOG_FORMAT": "json"}
        port = _free_port()
        command = [sys.executable, "-m", "mien", "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield port
        except BaseException:
            log.seek(0)
            err.print(log.read().decode(errors="replace")[-4000:], markup=False)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    """This process's, with the settings that choose models and how they run. The others are a real server's: with its
    certificate, ports or nodes the demo's server would not start, or could not be reached."""
    chosen: dict[str, Any] = {
        "cache_dir": settings.locations.cache_dir,
        "manifests_dir": settings.locations.manifests_dir,
        **settings.models.model_dump(),
        **settings.execution.model_dump(),
    }
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return others | {variable(name): text for name, value in chosen.items() if (text := _text(name, value))}


def _text(name: str, value: Any) -> str:
    """The value as its variable has it; "" for one that is not set."""
    if value is None:
        return "" if Variables.model_fields[name].default is None else "none"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    with err.status("starting a server and loading models"):
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Unavailable("the demo's server exited during startup; its log is above")
            try:
                if httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise Unavailable(f"the demo's server was not ready within {START_SECONDS:g} s")


def _faces_table(faces: list[dict[str, Any]]) -> Table:
    table = face_table("The faces in the photo")
    for number, face in enumerate(faces, 1):
        add_face(
            table,
            number,
            box=face["bbox"],
            score=face["prob"],
            age=face["age"],
            gender=face["gender"],
            mask=face["mask"],
        )
    return table


def _similarity_table(faces: list[dict[str, Any]]) -> Table:
    vectors = np.array([face["vec"] for face in faces])
    table = Table("", *(f"face {number}" for number in range(1, len(faces) + 1)), title="Similarity (cosine)")
    table.title_justify = "left"
    for number, row in enumerate(vectors @ vectors.T, 1):
        table.add_row(f"face {number}", *(f"{value:.2f}" for value in row))
    return table
