"""Models that an operator brings: two manifests and two files, served like the built-in ones."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

DETECTOR = """
name = "my_scrfd"
task = "face_detection"
family = "scrfd"
title = "A SCRFD of our own"
licence = "ours"
credit = "us"
score_threshold = 0.5
nms_threshold = 0.4

[source]
kind = "file"
path = "{path}"

[input]
name = "input.1"
multiple = 32
channels = "rgb"
mean = [127.5, 127.5, 127.5]
std = [128.0, 128.0, 128.0]
"""
RECOGNISER = """
name = "my_arcface"
task = "face_recognition"
family = "arcface"
title = "An ArcFace of our own"
licence = "ours"
credit = "us"
embedding_dim = {dim}
same_threshold = 0.5

[source]
kind = "file"
path = "{path}"

[input]
name = "input.1"
width = 112
height = 112
channels = "rgb"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
"""
SQUARE = (256, 128)
"""Upper left corner of the white square, 128 pixels wide: what the synthetic detector calls a face."""


@pytest.fixture(params=[(2, 512), (3, 128)], ids=["2-D outputs, 512 numbers", "3-D outputs, 128 numbers"])
def own(request: pytest.FixtureRequest, tmp_path: Path, synthetic: ModuleType) -> dict[str, Any]:
    """Settings of a server with models of its own, and the number of dimensions."""
    ndim, dim = request.param
    folder = tmp_path / "manifests"
    folder.mkdir()
    detector, recogniser = synthetic.scrfd(tmp_path / "d.onnx", ndim=ndim), synthetic.arcface(tmp_path / "r.onnx", dim)
    (folder / "my_scrfd.toml").write_text(DETECTOR.format(path=detector))
    (folder / "my_arcface.toml").write_text(RECOGNISER.format(path=recogniser, dim=dim))
    return {
        "dim": dim,
        "manifests_dir": folder,
        "cache_dir": tmp_path / "cache",
        "offline": True,
        "detector": "my_scrfd",
        "recogniser": "my_arcface",
        "age_model": "none",
        "gender_model": "none",
        "mask_model": "none",
        "image_model": "none",
        "text_model": "none",
    }


def image() -> bytes:
    canvas = np.zeros((480, 640, 3), np.uint8)
    x, y = SQUARE
    canvas[y : y + 128, x : x + 128] = 255
    return bytes(cv2.imencode(".png", canvas)[1])


def test_a_server_runs_on_models_of_the_operators_own(
    own: dict[str, Any], mien: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    dim = own.pop("dim")
    pulled = mien("models", "pull", "my_scrfd", "my_arcface", **own)
    assert pulled.returncode == 0, pulled.stderr
    server = serve(**own)
    files = {"file": ("square.png", image(), "image/png")}
    (answer,) = server.client.post("/multipart/extract", files=files).raise_for_status().json()["data"]
    (face,) = answer["faces"]
    x, y = SQUARE
    assert face["bbox"] == pytest.approx([x, y, x + 128, y + 128], abs=1)
    assert len(face["vec"]) == dim
    assert np.linalg.norm(face["vec"]) == pytest.approx(1, abs=1e-5)
    models = server.client.get("/info").json()["models"]
    assert (models["det_name"], models["rec_name"]) == ("my_scrfd", "my_arcface")


@pytest.mark.parametrize("wrong", ["dimension", "file"])
def test_a_manifest_that_does_not_fit_its_file_ends_the_start_with_a_sentence(
    wrong: str, own: dict[str, Any], mien: Callable[..., Any], synthetic: ModuleType, tmp_path: Path
) -> None:
    dim = own.pop("dim")
    if wrong == "dimension":
        expected = f"my_arcface: the model returns {dim} numbers per face; its manifest says embedding_dim = 64"
        content = RECOGNISER.format(path=tmp_path / "r.onnx", dim=64)
    else:
        expected = "my_arcface: the file does not run on an input of 3 x 112 x 112"
        content = RECOGNISER.format(path=synthetic.genderage(tmp_path / "g.onnx"), dim=dim)
    (own["manifests_dir"] / "my_arcface.toml").write_text(content)
    assert mien("models", "pull", "my_scrfd", "my_arcface", **own).returncode == 0
    ended = mien("serve", "--port", "0", **own)
    assert ended.returncode != 0
    assert expected in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr + ended.stdout
