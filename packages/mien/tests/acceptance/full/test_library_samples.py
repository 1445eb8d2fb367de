"""What docs/library.md shows is run as it stands, in a folder of photos."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien import Face, Faces

DOCUMENT = Path(__file__).parents[5] / "docs" / "library.md"
PHOTOS = Path(__file__).parents[2] / "photos"
SAMPLES = re.findall(r"^```(python|bash)\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "code"), SAMPLES)
def test_samples_run(language: str, code: str, tmp_path: Path) -> None:
    shutil.copy(PHOTOS / "person_a_1.jpg", tmp_path / "photo.jpg")
    shutil.copy(PHOTOS / "person_a_2.jpg", tmp_path / "other.jpg")
    done = subprocess.run(
        ["bash", "-e"] if language == "bash" else [sys.executable, "-W", "error", "-"],
        input=code,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=80,
    )
    assert done.returncode == 0, done.stderr
    assert "photo.jpg" in done.stdout or "similarity" in done.stdout


def test_names_of_other_libraries_lead_to_names_that_exist() -> None:
    tables = DOCUMENT.read_text().partition("## Coming from other libraries")[2].partition("\n## ")[0]
    ours = " ".join(row.split("|")[2] for row in tables.splitlines() if row.startswith("|"))
    methods, fields = set(re.findall(r"faces\.(\w+)", ours)), set(re.findall(r"face\.(\w+)", ours))
    assert methods >= {"find", "compare", "folder"}
    assert fields >= {"box", "landmarks", "score", "vector", "crop", "attributes"}
    assert [name for name in methods if not hasattr(Faces, name)] == []
    assert [name for name in fields if not hasattr(Face, name)] == []
