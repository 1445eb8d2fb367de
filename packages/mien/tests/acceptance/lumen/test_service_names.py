"""Bodies of newer SDKs, with the names that services have on other nodes."""

import base64
from typing import Any

import pytest


def data(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


@pytest.mark.parametrize("service", ["clip", "siglip", "bioclip", "lumen_clip", "SigLIP", "somebody_elses"])
def test_a_text_as_the_sdk_sends_it_goes_by_its_task(server: Any, service: str) -> None:
    body = {
        "task": "semantic_text_embed",
        "payload_mime": "text/plain",
        "payload": "hello world",
        "meta": {"service": service},
    }
    found = data(server.client.post("/v1/infer", json=body))
    assert (found["result_schema"], found["meta"]["lumen.model.id"]) == ("embedding_v1", "minilm")


@pytest.mark.parametrize(
    ("service", "task", "schema"),
    [
        ("face", "face_recognition", "face_v1"),
        ("insightface", "", "face_v1"),
        ("clip", "clip_image_embed", "embedding_v1"),
        ("bioclip", "bioclip_classify", "labels_v1"),
    ],
)
def test_an_image_goes_to_the_service_of_that_name(
    server: Any, photo: bytes, service: str, task: str, schema: str
) -> None:
    payload = base64.b64encode(photo).decode()
    newer = {"task": task, "payload_mime": "image/jpeg", "payload": payload, "meta": {"service": service}}
    assert data(server.client.post("/v1/infer", json=newer))["result_schema"] == schema
    named = {"service": service, "task": task, "payload": payload}
    assert data(server.client.post("/v1/infer", json=named))["result_schema"] == schema


def test_what_nothing_has_is_a_404_that_says_what_there_is(server: Any) -> None:
    body = {"task": "sing", "payload_mime": "text/plain", "payload": "la", "meta": {"service": "choir"}}
    answer = server.client.post("/v1/infer", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "no service has a task called 'sing'; there are: " in answer.json()["message"]
    assert "semantic_text_embed" in answer.json()["message"]


def test_each_model_is_listed_by_itself(server: Any) -> None:
    nodes = server.client.get("/v1/nodes").json()["data"]["nodes"]
    embedding = next(one for one in nodes[0]["capabilities"] if one["service_name"] == "embedding")
    assert embedding["model_ids"] == ["efficientnet_lite0", "minilm"]
