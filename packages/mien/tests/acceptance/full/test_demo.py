"""`mien demo`: it shows faces, and leaves no server behind."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import psutil
from PIL import Image

Mien = Callable[..., "subprocess.CompletedProcess[str]"]


def ok(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_demo_shows_faces_and_leaves_nothing_running(mien_process: Mien, tmp_path: Path) -> None:
    def servers() -> set[int]:
        found = set()
        for process in psutil.process_iter(["cmdline", "environ"]):
            environment = process.info["environ"] or {}
            if "serve" in (process.info["cmdline"] or []) and "mien-demo-" in environment.get("MIEN_DATA_DIR", ""):
                found.add(process.pid)
        return found

    before = servers()
    ok(mien_process("demo", "--output", "out"))
    started = time.monotonic()
    printed = ok(mien_process("demo", "--output", "out"))
    assert time.monotonic() - started < 60
    assert re.search(r"[2-9]\d* faces, each with 512 dimensions", printed)
    assert Image.open(BytesIO((tmp_path / "out" / "faces.jpg").read_bytes())).format == "JPEG"
    assert servers() <= before


def test_the_demo_uses_no_certificate_and_no_port_of_a_real_server(mien_process: Mien, tmp_path: Path) -> None:
    settings = tmp_path / "mien.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings.write_text(f"""
            [listening]
            tls_certificate = "nowhere.pem"
            [nodes]
            grpc_port = {port}
            [models]
            age_model = "none"
            """)
        printed = ok(mien_process("demo", "--output", "out", config=settings))
    assert re.search(r"[2-9]\d* faces, each with 512 dimensions", printed)
    assert (tmp_path / "out" / "faces.jpg").is_file()


def test_a_demo_that_is_told_to_stop_leaves_no_server_running(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "mien", "demo", "--output", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not (servers := psutil.Process(demo.pid).children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert servers, "the demo started no server"
    demo.terminate()
    assert demo.wait(30) == 143
    assert not any(server.is_running() for server in servers)
