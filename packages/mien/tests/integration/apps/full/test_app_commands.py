"""`mien apps …` on a data folder."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HELLO = Path(__file__).parents[6] / "examples" / "apps" / "hello"
Mien = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HELLO, tmp_path / "hello"))


def test_the_life_of_an_app(mien: Mien, hello: Path) -> None:
    first = mien("apps", "deploy", str(hello))
    assert first.returncode == 0, first.stderr
    first_ref = first.stdout.strip()
    assert first_ref.startswith("examples/hello@")
    assert "deployed examples/hello: run" in first.stderr
    assert mien("apps", "deploy", str(hello)).stdout.strip() == first_ref

    (hello / "more.txt").write_text("more")
    second_ref = mien("apps", "deploy", str(hello)).stdout.strip()
    assert second_ref != first_ref
    shown = mien("apps", "show", "examples/hello").stdout
    assert f"{second_ref.rpartition('@')[2]}" in shown
    assert "functions  run" in shown

    assert mien("apps", "rollback", "examples/hello").stdout.strip() == first_ref
    assert "removed 1 version of" in mien("apps", "rm", second_ref).stderr
    assert "examples/hello" in mien("apps", "list").stdout
    assert mien("apps", "rm", "examples/hello").returncode == 0
    gone = mien("apps", "show", "examples/hello")
    assert gone.returncode == 1
    assert "app_unknown" in gone.stderr


def test_a_name_can_be_given(mien: Mien, hello: Path) -> None:
    assert mien("apps", "deploy", str(hello), "--name", "ada/greeter").stdout.startswith("ada/greeter@")
    bad = mien("apps", "deploy", str(hello), "--name", "../x")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
