"""Models of a running server, loaded and unloaded by command and over HTTP, as clients of every API see it."""

import base64
import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from inferencesh import Inference
from mien.nodes.contract import SERVICE
from mien.nodes.proto import inference_pb2 as pb
from testing import tiny_clip
from testing.ports import free_port

Mien = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, light: dict[str, str]) -> dict[str, Any]:
    return {**light, **tiny_clip.install(tmp_path_factory.mktemp("clip")), "grpc_port": free_port()}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Any], settings: dict[str, Any]) -> Any:
    return serve_module(**settings)


def embedded(server: Any, words: str = "a cat") -> Any:
    payload = base64.b64encode(words.encode()).decode()
    asked = {"service": "embedding", "task": "lumen_clip_embed", "payload": payload, "payload_mime": "text/plain"}
    return server.client.post("/v1/infer", json=asked)


def tasks(server: Any) -> set[str]:
    return {task["name"] for task in server.client.get("/v1/tasks").json()["data"]["all_tasks"]}


def on_the_node(settings: dict[str, Any]) -> dict[str, list[str]]:
    """Services that a gRPC client sees, with their models."""
    with grpc.insecure_channel(f"127.0.0.1:{settings['grpc_port']}") as channel:
        call = channel.unary_stream(f"/{SERVICE}/StreamCapabilities", Empty.SerializeToString, pb.Capability.FromString)
        return {found.service_name: list(found.model_ids) for found in call(Empty(), timeout=30)}


def asked_of_the_node(settings: dict[str, Any], task: str, payload: bytes, mime: str, **meta: str) -> Any:
    """The result that a gRPC client gets."""
    with grpc.insecure_channel(f"127.0.0.1:{settings['grpc_port']}") as channel:
        infer = channel.stream_stream(
            f"/{SERVICE}/Infer", pb.InferRequest.SerializeToString, pb.InferResponse.FromString
        )
        request = pb.InferRequest(task=task, payload=payload, payload_mime=mime, meta=meta)
        (answer,) = infer(iter([request]), timeout=30)
        return json.loads(answer.result)


def test_a_model_comes_and_goes_by_command_and_every_api_sees_it(
    server: Any, settings: dict[str, Any], mien: Mien
) -> None:
    assert embedded(server).status_code == 404
    assert set(on_the_node(settings)) == {"face_detection", "face_recognition"}
    loaded = mien("models", "load", "set_of_tiny_clip", "--url", server.url)
    assert (loaded.returncode, loaded.stdout.strip()) == (0, "tiny_clip  loaded"), loaded.stderr
    assert "tiny_clip  already loaded" in mien("models", "load", "tiny_clip", "--url", server.url).stdout
    answer = embedded(server).raise_for_status().json()["data"]
    assert answer["meta"]["lumen.model.id"] == "tiny_clip"
    assert {"semantic_text_embed", "zero_shot_classify"} <= tasks(server)
    assert on_the_node(settings)["embedding"] == on_the_node(settings)["classification"] == ["tiny_clip"]
    words = asked_of_the_node(settings, "semantic_text_embed", b"a cat", "text/plain")
    seen = asked_of_the_node(settings, "clip_image_embed", tiny_clip.images()[0], "image/png")
    assert (words["model_id"], seen["model_id"], words["dim"], seen["dim"]) == ("tiny_clip", "tiny_clip", 24, 24)
    found = asked_of_the_node(settings, "clip_classify", tiny_clip.images()[0], "image/png", labels="cat,dog")
    assert {label["label"] for label in found["labels"]} == {"cat", "dog"}
    listed = json.loads(mien("models", "loaded", "--output", "json", "--url", server.url).stdout)
    assert [model["name"] for model in listed] == ["yunet", "fr_feature", "tiny_clip"]
    assert mien("models", "unload", "tiny_clip", "--url", server.url).stdout.strip() == "tiny_clip  unloaded"
    assert embedded(server).status_code == 404
    assert set(on_the_node(settings)) == {"face_detection", "face_recognition"}
    assert not {"semantic_text_embed", "zero_shot_classify"} & tasks(server)


def test_built_in_apps_and_both_kinds_of_payload_use_the_clip(server: Any, photo: bytes) -> None:
    server.client.post("/models/tiny_siglip/load").raise_for_status()
    with Inference(api_key="none", base_url=server.url) as client:
        words = client.run({"app": "mien/embed", "input": {"text": "a cat"}})["output"]
        seen = client.run({"app": "mien/embed", "input": {"image": photo}})["output"]
        assert words["model_id"] == seen["model_id"] == "tiny_siglip"
        assert len(words["vector"]) == len(seen["vector"]) == 32
        asked = {"image": photo, "labels": ["cat", "dog, or wolf"], "template": "{}"}
        found = client.run({"app": "mien/classify", "input": asked})["output"]
    assert {label["label"] for label in found["labels"]} == {"cat", "dog, or wolf"}
    assert found["model_id"] == "tiny_siglip"


def test_a_load_that_fails_says_why_and_the_old_model_goes_on(server: Any, mien: Mien) -> None:
    server.client.post("/models/tiny_clip/load").raise_for_status()
    failed = mien("models", "load", "clip", "--url", server.url)
    assert failed.returncode == 1
    assert "mien models pull clip_vit_b32_image" in failed.stderr
    for name, status, code in (
        ("nothing", 404, "model_unknown"),
        ("sface", 409, "conflict"),
        ("default", 400, "bad_request"),
        ("tiny_clip_tokenizer", 400, "bad_request"),
    ):
        answer = server.client.post(f"/models/{name}/load")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert server.client.post("/models/minilm/unload").json()["error"]["code"] == "not_found"
    assert embedded(server).json()["data"]["meta"]["lumen.model.id"] == "tiny_clip"


def test_the_face_models_stay(server: Any, photo: bytes) -> None:
    for name in ("yunet", "fr_feature"):
        answer = server.client.post(f"/models/{name}/unload")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_in_use")
        assert server.client.post(f"/models/{name}/load").json()["data"]["changed"] is False
    files = {"file": ("photo.jpg", photo, "image/jpeg")}
    assert server.client.post("/multipart/extract", files=files).json()["data"][0]["faces"]


def test_models_change_under_load_and_every_answer_is_whole_or_says_why(server: Any) -> None:
    over = threading.Event()
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        while not over.is_set():
            answer = embedded(server)
            body = answer.json()
            said = body["data"]["meta"]["lumen.model.id"] if answer.status_code == 200 else body["error"]["code"]
            answers.append((answer.status_code, said))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for step in ("tiny_clip/load", "tiny_siglip/load", "tiny_siglip/unload") * 5:
        server.client.post(f"/models/{step}").raise_for_status()
    over.set()
    for asker in askers:
        asker.join()
    assert set(answers) <= {
        (200, "tiny_clip"), (200, "tiny_siglip"), (404, "not_found"), (503, "model_unavailable"),
    }  # fmt: skip
    assert {(200, "tiny_clip"), (200, "tiny_siglip")} & set(answers)


def test_only_administrators_change_models(keyed: Any) -> None:
    for key, expected in (("", 401), (keyed.infer, 403), (keyed.admin, 409)):
        headers = {"X-API-Key": key} if key else {}
        assert keyed.client.post("/models/yunet/unload", headers=headers).status_code == expected
    assert keyed.client.get("/models", headers={"X-API-Key": keyed.infer}).json()["data"]["models"][0]["required"]
