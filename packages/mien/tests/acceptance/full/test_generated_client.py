"""A client that a generator makes of the OpenAPI document talks to a real server."""

import json
import subprocess
from pathlib import Path

import httpx2
import pytest
import uv

from packages.mien.tests.conftest import PHOTOS, ServerProcess

REQUIREMENTS = Path(__file__).parents[5] / "requirements" / "client-generator.txt"
CALLS = Path(__file__).parent / "generated_calls.py"
CONFIGURATION = {"project_name_override": "mien-generated", "package_name_override": "mien_generated", "post_hooks": []}
UNREAD = {"application/zip", "application/x-tar", "image/jpeg", "*/*"}
"""Media types that this generator has no code for, besides those of MessagePack."""


def run(*command: str | Path) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the generator, and what its clients need."""
    folder = tmp_path_factory.mktemp("generator") / "venv"
    run(uv.find_uv_bin(), "venv", "--quiet", folder)
    python = folder / "bin" / "python"
    run(uv.find_uv_bin(), "pip", "install", "--quiet", "--require-hashes", "--python", python, "-r", REQUIREMENTS)
    return python


@pytest.mark.limit(300)
def test_a_generated_client_makes_real_calls(
    python: Path, server: ServerProcess, client: httpx2.Client, tmp_path: Path
) -> None:
    document, configuration = tmp_path / "openapi.json", tmp_path / "configuration.json"
    document.write_text(client.get("/openapi.json").text)
    configuration.write_text(json.dumps(CONFIGURATION))
    said = run(
        python.parent / "openapi-python-client", "generate", "--path", document, "--config", configuration,
        "--output-path", tmp_path / "client",
    )  # fmt: skip
    unread = {line.rpartition(" ")[2] for line in said.splitlines() if line.startswith("Unsupported content type")}
    assert {kind for kind in unread if "msgpack" not in kind} <= UNREAD
    assert "Unable to process schema" not in said
    operations = sum(len(methods) for methods in client.get("/openapi.json").json()["paths"].values())
    modules = [path for path in (tmp_path / "client").rglob("api/*/*.py") if path.name != "__init__.py"]
    assert len(modules) == operations
    environment = {"PYTHONPATH": str(tmp_path / "client"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [python, CALLS, server.url, PHOTOS / "person_a_1.jpg"],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {
        "kinds": [
            "ExtractAnswer", "ExtractAnswer", "InferAnswer", "FileListOrFileEnvelope", "TaskEnvelope",
            "TaskPageEnvelope", "Problem",
        ],
        "faces": [1, 1, 1],
        "landmarks": 5,
        "vector": 512,
        "result": 1,
        "file": [(PHOTOS / "person_a_1.jpg").stat().st_size, True],
        "task": ["completed", True, True],
        "error": "not_found",
    }  # fmt: skip
