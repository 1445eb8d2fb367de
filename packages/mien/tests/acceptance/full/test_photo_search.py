"""The sample app that searches a folder by words, on a server with the tiny CLIP."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferencesh import Inference
from testing import tiny_clip
from testing.tiny_clip import CLIP

APP = Path(__file__).parents[5] / "examples" / "apps" / "photo_search"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images, half of them in a folder of their own, and a file that is no image."""
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for number, data in enumerate(tiny_clip.images()):
        (photos / ("more" if number % 2 else "") / f"{number}.png").write_bytes(data)
    (photos / "broken.jpg").write_bytes(b"not an image")
    (photos / "notes.txt").write_bytes(b"not a photo")
    return photos


def test_a_folder_is_searched_by_words(
    folder: Path,
    serve: Callable[..., Any],
    mien: Callable[..., subprocess.CompletedProcess[str]],
    light: dict[str, str],
    tmp_path: Path,
) -> None:
    server = serve(**light, **tiny_clip.install(tmp_path), clip_model=CLIP.name)
    deployed = mien("apps", "deploy", str(APP), "--url", server.url)
    assert deployed.returncode == 0, deployed.stderr
    words = CLIP.said["texts"][0]
    cosines = CLIP.expected["images"] @ CLIP.expected["texts"][0]
    expected = [f"more/{n}.png" if n % 2 else f"{n}.png" for n in np.argsort(-cosines)]
    with Inference(api_key="none", base_url=server.url) as client:

        def search(**given: Any) -> dict[str, Any]:
            setup = {"folder": str(folder), "server": server.url}
            found: dict[str, Any] = client.run(
                {"app": "examples/photo-search", "input": {"words": words, **given}, "setup": setup}
            )["output"]
            return found

        found = search()
        assert [photo["photo"] for photo in found["photos"]] == expected
        assert [photo["cosine"] for photo in found["photos"]] == pytest.approx(sorted(cosines)[::-1], abs=1e-4)
        assert (found["searched"], found["unreadable"]) == (5, ["broken.jpg"])
        (folder / "broken.jpg").unlink()
        (folder / expected[0]).unlink()
        found = search(count=2)
        assert [photo["photo"] for photo in found["photos"]] == expected[1:3]
        assert (found["searched"], found["unreadable"]) == (4, [])
