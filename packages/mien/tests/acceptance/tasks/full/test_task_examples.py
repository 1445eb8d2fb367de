"""The example apps, deployed by the command and run through the api."""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

APPS = Path(__file__).parents[6] / "examples" / "apps"
Mien = Callable[..., subprocess.CompletedProcess[str]]


def test_faces_of_a_photo_become_a_collage(api: Any, mien: Mien, collage: bytes) -> None:
    deployed = mien("apps", "deploy", str(APPS / "face_collage"), "--url", api.url)
    assert deployed.returncode == 0, deployed.stderr
    reference = deployed.stdout.strip()
    photo = api.client.post("/files", files={"file": ("six.jpg", collage, "image/jpeg")}).json()["data"]
    ended = api.ended(api.run(reference, {"photo": photo["uri"], "side": 100}, setup={"server": api.url})["id"])
    assert ended["status"] == 9, ended["error"]
    assert ended["output"]["faces"] == 6
    answer = api.client.get(ended["output"]["collage"])
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (300, 200)


def test_apps_of_a_running_server_are_managed_by_the_command(api: Any, mien: Mien, tmp_path: Path) -> None:
    first = mien("apps", "deploy", str(APPS / "hello"), "--name", "test/greeter", "--url", api.url)
    assert first.returncode == 0, first.stderr
    assert "deployed test/greeter: run" in first.stderr
    assert "test/greeter" in mien("apps", "list", "--url", api.url).stdout
    shown = mien("apps", "show", "test/greeter", "--url", api.url)
    assert "latest" in shown.stdout
    assert mien("apps", "rollback", "test/greeter", "--url", api.url).returncode == 1
    assert "removed 1 version" in mien("apps", "rm", "test/greeter", "--url", api.url).stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "inference.py").write_text("import nothing_of_that_name\n")
    refused = mien("apps", "deploy", str(broken), "--url", api.url)
    assert refused.returncode == 1
    assert "nothing_of_that_name" in refused.stderr
