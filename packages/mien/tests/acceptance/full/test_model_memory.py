"""Memory of models that come and go, and a server that is killed meanwhile."""

import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.zoo.manifest import load_manifests
from mien.zoo.zoo import Zoo
from testing import tiny_clip
from testing.tiny_clip import CLIP
from testing.waiting import eventually

WEIGHTS_MB = 120


def heavy(path: Path) -> Path:
    """A model with the shapes of the tiny CLIP's image half and weights of 120 MB."""
    columns = WEIGHTS_MB * 1024**2 // 4 // 3
    rng = np.random.default_rng(0)
    weights = {
        "wide": rng.standard_normal((3, columns), np.float32),
        "narrow": rng.standard_normal((1, 24)).astype(np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "wide"], ["much"]),
        helper.make_node("ReduceMean", ["much", "axes"], ["one"], keepdims=1),
        helper.make_node("MatMul", ["one", "narrow"], ["image_embeds"]),
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["N", 3, 96, 96])],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["N", 24])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.fixture
def settings(tmp_path: Path, light: dict[str, str]) -> dict[str, Any]:
    """Those of a server that has the tiny models and, as `heavy`, the tiny CLIP with a heavy image half."""
    found = tiny_clip.install(tmp_path)
    manifests = found["manifests_dir"]
    for half in ("image", "text", "tokenizer"):
        content = (manifests / f"{CLIP.name}_{half}.toml").read_text().replace(f"{CLIP.name}_{half}", f"heavy_{half}")
        if half == "image":
            content = content.replace(str(CLIP.folder / "image.onnx"), str(heavy(tmp_path / "heavy.onnx")))
        (manifests / f"heavy_{half}.toml").write_text(content)
    zoo = Zoo(found["cache_dir"] / "models", load_manifests(manifests), offline=True)
    for half in ("image", "text", "tokenizer"):
        zoo.pull(f"heavy_{half}")
    return {**light, **found}


def test_memory_of_an_unloaded_model_is_free_again(settings: dict[str, Any], serve: Callable[..., Any]) -> None:
    server = serve(**settings)
    before = server.rss_mb()
    for _ in range(3):
        server.client.post("/models/heavy/load").raise_for_status()
        asked = {"service": "embedding", "decode": "1"}
        kind = {"Content-Type": "image/png"}
        server.client.post("/v1/infer", params=asked, content=tiny_clip.images()[0], headers=kind).raise_for_status()
        assert server.rss_mb() > before + WEIGHTS_MB * 0.9
        server.client.post("/models/heavy/unload").raise_for_status()
        assert server.rss_mb() < before + WEIGHTS_MB * 0.25


def test_a_server_killed_while_it_loads_starts_as_its_settings_say(
    settings: dict[str, Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve(**settings, data_dir=tmp_path / "kept", clip_model="tiny_siglip")
    ended = threading.Event()

    def load() -> None:
        with pytest.raises(httpx2.TransportError):
            server.client.post("/models/heavy/load")
        ended.set()

    threading.Thread(target=load).start()
    eventually(lambda: server.rss_mb() > 0)
    server.stop(signal.SIGKILL)
    assert ended.wait(30)
    again = serve(**settings, data_dir=tmp_path / "kept", clip_model="tiny_siglip")
    states = {model["name"]: model["state"] for model in again.client.get("/models").json()["data"]["models"]}
    assert states == {"yunet": "loaded", "fr_feature": "loaded", "tiny_siglip": "loaded"}
    shutil.rmtree(tmp_path / "kept")
