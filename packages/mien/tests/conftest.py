"""What tests share: real photos, and real server processes on free ports of this machine."""

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import psutil
import pytest

from mien.keys import FileKeyStore
from testing.ports import free_port

PHOTOS = Path(__file__).parent / "photos"
START_SECONDS = 80.0
LIGHT = {f"{model}_model": "none" for model in ("age", "gender", "mask", "pose", "landmark", "image", "text")}
"""Settings of a server that loads few models."""


@dataclass
class ServerProcess:
    """One `mien serve` on 127.0.0.1 and a client for it."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log_path: Path
    data_dir: Path
    client: httpx2.Client

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def rss_mb(self) -> float:
        """Resident memory of the server in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def peak_mb(self) -> float:
        """The most resident memory that the server ever had, in MB (Linux; elsewhere what it has now)."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return self.rss_mb()
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / 1e6

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 if there is none."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            if key.partition("{")[0] == name and all(f'{label}="{given}"' in key for label, given in labels.items()):
                total += float(value)
        return total

    def until_ready(self) -> None:
        """Wait until the models are loaded. Fails when the server ends, or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log[-4000:]}")
            try:
                if self.client.get("/readyz", timeout=2).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        pytest.fail(f"the server was not ready within {START_SECONDS:g} s:\n{self.log[-4000:]}")

    def stop(self, kind: signal.Signals = signal.SIGTERM, *, seconds: float = 20.0) -> int:
        """Send the signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(kind)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def mien_environment(data_dir: Path, settings: dict[str, Any]) -> dict[str, str]:
    """This process's environment without its MIEN_* variables, with the given settings; the cache stays shared.

    Nor the size of a terminal, which nobody has here: readline exports it when a debugger imports it.
    """
    left_out = ("MIEN_", "COLUMNS", "LINES")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    if "MIEN_CACHE_DIR" in os.environ:
        inherited["MIEN_CACHE_DIR"] = os.environ["MIEN_CACHE_DIR"]
    given = {f"MIEN_{name.upper()}": str(value) for name, value in settings.items()}
    return {**inherited, "MIEN_DATA_DIR": str(data_dir), "MIEN_LOG_FORMAT": "json", **given}


@pytest.fixture(scope="session")
def server_environment() -> Callable[..., dict[str, str]]:
    """`server_environment(data_dir, setting=value, …)`: the variables that a server is started with."""
    return lambda data_dir, **settings: mien_environment(data_dir, settings)


def launch(stack: ExitStack, folder: Path, options: list[str], settings: dict[str, Any], ready: bool) -> ServerProcess:
    """Start a server that ends with the stack. `program` among the settings: what Python runs instead of `-m mien`."""
    program = settings.pop("program", ("-m", "mien"))
    data_dir = Path(settings.pop("data_dir", folder / "data"))
    port = free_port()
    log_path = folder / f"server-{port}.log"
    log = stack.enter_context(log_path.open("wb"))
    process = subprocess.Popen(
        [sys.executable, *program, "serve", "--port", str(port), *options],
        env=mien_environment(data_dir, settings),
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    client = stack.enter_context(httpx2.Client(base_url=url, timeout=60, trust_env=False))
    server = ServerProcess(url, port, process, log_path, data_dir, client)
    stack.callback(server.stop, signal.SIGKILL)
    if ready:
        server.until_ready()
    return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers: `serve("--option", …, setting=value, …)`. `ready=False` does not wait for the models."""
    with ExitStack() as stack:

        def start(*options: str, ready: bool = True, **settings: Any) -> ServerProcess:
            return launch(stack, tmp_path, list(options), settings, ready)

        yield start


@pytest.fixture(scope="session")
def serve_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """As `serve`, for servers that many modules share."""
    with ExitStack() as stack:

        def start(*options: str, ready: bool = True, **settings: Any) -> ServerProcess:
            return launch(stack, tmp_path_factory.mktemp("server"), list(options), settings, ready)

        yield start


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """As `serve`, for servers that a whole module of tests shares."""
    with ExitStack() as stack:

        def start(*options: str, ready: bool = True, **settings: Any) -> ServerProcess:
            return launch(stack, tmp_path_factory.mktemp("server"), list(options), settings, ready)

        yield start


@pytest.fixture(scope="session")
def light() -> dict[str, str]:
    """Settings of a server that loads few models."""
    return LIGHT


@pytest.fixture(scope="session")
def images_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images root of the shared server: the photos under `people/`, and links that lead out of it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.jpg").write_bytes((PHOTOS / "person_a_1.jpg").read_bytes())
    root = tmp_path_factory.mktemp("images")
    (root / "people").mkdir()
    for photo in PHOTOS.glob("*.jpg"):
        (root / "people" / photo.name).write_bytes(photo.read_bytes())
    (root / "link.jpg").symlink_to(outside / "secret.jpg")
    (root / "links").symlink_to(outside)
    return root


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, images_root: Path) -> Iterator[ServerProcess]:
    """A server with default settings, an images root, and leave to fetch from this machine."""
    with ExitStack() as stack:
        settings = {"fetch_private": True, "fetch_tries": 1, "fetch_headers": '{"*": {"X-Secret": "s3cr3t-value"}}'}
        folder = tmp_path_factory.mktemp("server")
        yield launch(stack, folder, ["--images-root", str(images_root)], settings, ready=True)


@dataclass
class Keyed:
    """A server with API keys, and a client without one."""

    server: ServerProcess
    infer: str
    """A key's secret."""
    admin: str
    """That of a key which may administer, but not infer."""
    both: str

    @property
    def client(self) -> httpx2.Client:
        return self.server.client

    @property
    def data_dir(self) -> Path:
        return self.server.data_dir


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """The server with keys that all tests share; it loads few models."""
    folder = tmp_path_factory.mktemp("keyed")
    store = FileKeyStore(folder / "data")
    infer, admin, both = (
        store.create(name, scopes)[1]
        for name, scopes in {"alice": ["infer"], "root": ["admin"], "owner": ["admin", "infer"]}.items()
    )
    with ExitStack() as stack:
        started = launch(stack, folder, [], {"app_memory": 512 * 1024**2, **LIGHT}, ready=True)
        yield Keyed(started, infer, admin, both)


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> httpx2.Client:
    return server.client


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """The test photos by name; each shows one face."""
    return {path.stem: path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))}


@pytest.fixture(scope="session")
def photo(photos: dict[str, bytes]) -> bytes:
    return photos["person_a_1"]


@pytest.fixture(scope="session")
def collage(photos: dict[str, bytes]) -> bytes:
    """A JPEG of 1152×768 with six faces."""
    import cv2
    import numpy as np

    tiles = []
    for data in photos.values():
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        factor = 384 / max(height, width)
        shrunk = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
        tile = np.zeros((384, 384, 3), np.uint8)
        tile[: shrunk.shape[0], : shrunk.shape[1]] = shrunk
        tiles.append(tile)
    image = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])
    return bytes(cv2.imencode(".jpg", image)[1])


class CommandHost:
    """A process that runs commands one after the other: starting Python takes longer than most of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], environment: dict[str, str], folder: Path, seconds: float) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "replay" / "command_host.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": arguments, "environment": environment, "folder": str(folder)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self._process.kill()
            pytest.fail(f"mien {' '.join(arguments)} was not over after {seconds:g} s")
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """By the end of its input; a command that hangs is killed."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None


@pytest.fixture(scope="session")
def command_host() -> Iterator[CommandHost]:
    host = CommandHost()
    yield host
    host.stop()


@pytest.fixture
def mien(tmp_path: Path, command_host: CommandHost) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command to its end: `mien("faces", "photo.jpg", setting=value, …)`; the working folder is tmp_path.

    In a process that has run other commands before; `mien_process` gives a command one of its own.
    """

    def run(*arguments: str, seconds: float = 80, **settings: Any) -> subprocess.CompletedProcess[str]:
        data_dir = Path(settings.pop("data_dir", tmp_path / "data"))
        found = command_host.run([*arguments], mien_environment(data_dir, settings), tmp_path, seconds)
        return subprocess.CompletedProcess(["mien", *arguments], found["exit"], found["stdout"], found["stderr"])

    return run


@pytest.fixture
def mien_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `mien`, in a process of its own, as from a shell."""

    def run(*arguments: str, seconds: float = 80, **settings: Any) -> subprocess.CompletedProcess[str]:
        data_dir = Path(settings.pop("data_dir", tmp_path / "data"))
        return subprocess.run(
            [sys.executable, "-m", "mien", *arguments],
            env=mien_environment(data_dir, settings),
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=tmp_path,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The functions of synthetic_onnx.py: `scrfd`, `arcface`, `genderage` write ONNX files with known answers."""
    spec = importlib.util.spec_from_file_location("synthetic_onnx", Path(__file__).parent / "synthetic_onnx.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
