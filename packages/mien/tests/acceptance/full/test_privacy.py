"""Nothing is reported to anybody."""

import os
import subprocess
import sys
from pathlib import Path

from mien.settings import Settings


def test_the_runtime_leaves_no_trace_of_its_telemetry(tmp_path: Path, photo: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    # none of this process's variables: ONNX Runtime looks for those of build machines, and keeps still there
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temporary),
        "MIEN_CACHE_DIR": str(Settings().locations.cache_dir), "MIEN_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip
    command = [sys.executable, "-m", "mien", "faces", str(tmp_path / "photo.jpg"), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [path for folder in (home, temporary) for path in folder.rglob("*")] == []
