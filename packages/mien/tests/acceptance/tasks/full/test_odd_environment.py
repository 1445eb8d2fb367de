"""A server whose environment is as containers and schedulers make it: it starts, and tasks run."""

from pathlib import Path
from typing import Any

import pytest

SERVICE_LINKS = {
    "MIEN_PORT": "tcp://10.96.0.7:8080",
    "MIEN_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "MIEN_PORT_8080_TCP_ADDR": "10.96.0.7",
    "MIEN_SERVICE_HOST": "10.96.0.7",
    "MIEN_SERVICE_PORT": "8080",
    "MIEN_WEB_SERVICE_HOST": "10.96.0.8",
    "MIEN_GRPC_PORT": "tcp://10.96.0.8:50051",
}


def test_tasks_run_where_folders_have_long_paths_and_kubernetes_has_a_service_of_that_name(
    serve: Any, make_api: Any, kit: str, light: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    temporary.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    links = {name.removeprefix("MIEN_").lower(): value for name, value in SERVICE_LINKS.items()}
    (tmp_path / "mien.toml").write_text("[listening]\ndrain_seconds = 1\n[workers]\napp_memory = 536870912\n")
    data = temporary / "data"
    server = serve(data_dir=data, config=tmp_path / "mien.toml", **links, **light)
    api = make_api(server.client)
    api.deploy("kit", kit)
    upload = server.client.post("/files", files={"file": ("a.txt", b"words", "text/plain")}).json()["data"]
    task = api.run("test/kit", {"do": "file", "file": upload["uri"]})
    assert api.ended(task["id"])["output"]["count"] == 5
    assert server.stop() == 0
