"""What `pip install` of the built wheels gives: a server of faces, without extras, Node.js, pip or a filled cache."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx2
import pytest
import uv

from mien.apps.mirrors import uv_environment

ROOT = Path(__file__).parents[5]
PROJECTS = ("mien", "infsh", "ifr-clients")
START_SECONDS = 60


def run_uv(*arguments: str | Path) -> None:
    command = [uv.find_uv_bin(), *map(str, arguments), "--quiet"]
    ran = subprocess.run(command, env={**os.environ, **uv_environment()}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of each distribution, built from its sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for project in PROJECTS:
        run_uv("build", "--no-build-isolation", "--out-dir", folder, ROOT / "packages" / project)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def mien(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `mien` of an environment that holds the wheels and what they require, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run_uv("venv", folder)
    python = folder / "bin" / "python"
    run_uv("pip", "install", "--python", python, "--constraints", ROOT / "requirements" / "serve.txt", *wheels)
    return folder / "bin" / "mien"


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user who has nothing yet: no program on the path, empty folders."""
    home = tmp_path_factory.mktemp("home")
    return {"PATH": str(home), "HOME": str(home), "MIEN_LOG_FORMAT": "json"}


@pytest.fixture(scope="module")
def server(mien: Path, surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is ready. It ends with status 0 when it is told to."""
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([mien, "serve", "--port", "0"], env=surroundings, stdout=sink, stderr=sink)
    try:
        yield ready(process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        records = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        if any(record["event"] == "ready" for record in records):
            return str(next(record["url"] for record in records if record["event"] == "listening"))
        time.sleep(0.05)
    pytest.fail(f"the server did not become ready:\n{log.read_text()}")


def extract(url: str, **options: bool) -> httpx2.Response:
    portrait = (resources.files("mien") / "data/portrait.jpg").read_bytes()
    return httpx2.post(f"{url}/multipart/extract", files={"file": portrait}, data=options, timeout=30)


def test_there_is_one_version(mien: Path, wheels: list[Path], surroundings: dict[str, str]) -> None:
    version = (ROOT / "VERSION").read_text().strip()
    assert [wheel.name.split("-")[1] for wheel in wheels] == [version] * len(PROJECTS)
    names = ("mien", "infsh", "inferencesh", "lumen_client", "ifr_clients")
    modules = f"import {', '.join(names)}; print({', '.join(f'{name}.__version__' for name in names)})"
    printed = subprocess.check_output([mien.with_name("python"), "-c", modules], env=surroundings, text=True)
    assert printed.split() == [version] * len(names)


@pytest.mark.parametrize(("project", "module"), [("infsh", "lumen_client"), ("ifr_clients", "ifr_clients")])
def test_a_client_is_installed_without_the_server(
    wheels: list[Path], server: str, tmp_path: Path, project: str, module: str
) -> None:
    (wheel,) = (one for one in wheels if one.name.startswith(f"{project}-"))
    run_uv("venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run_uv("pip", "install", "--python", python, "--constraints", ROOT / "requirements" / "serve.txt", wheel)
    port = server.rpartition(":")[2]
    code = {
        "lumen_client": f"from lumen_client import LumenClient; print(LumenClient('{server}').health()['status'])",
        "ifr_clients": f"from ifr_clients import IFRClient; print(IFRClient('127.0.0.1', {port}).health()['status'])",
    }[module]
    assert subprocess.check_output([python, "-c", code], text=True).strip()
    assert not list((tmp_path / "venv").glob("lib/*/site-packages/numpy"))


def test_the_models_licences_are_in_the_wheel(mien: Path) -> None:
    (licences,) = mien.parents[1].glob("lib/*/site-packages/mien-*.dist-info/licenses/**/LICENSES.md")
    assert licences.read_text().count("MIT License") == 2


def test_it_finds_and_embeds_the_face_of_a_photo(server: str) -> None:
    answer = extract(server, extract_embedding=True)
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["data"][0]["faces"]
    assert len(face["vec"]) == 512


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("extract_ga", "extract_ga needs the models age and gender, which this server does not have: pip is needed"),
        ("detect_masks", "detect_masks needs the model mask, which this server does not have: converting this model "),
    ],
)
def test_what_needs_more_models_says_what_to_do(server: str, option: str, said: str) -> None:
    answer = extract(server, **{option: True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_unavailable"
    assert answer.json()["message"].startswith(said)
    assert "run `" in answer.json()["message"]
    assert extract(server).status_code == 200
