"""The built-in apps on real models: what a task answers is what `/v1/infer` answers for the same payload."""

import base64
from typing import Any

import numpy as np
import pytest

TOLERANCE = 1e-5  # of services.md: results do not depend on the api, on batches or on what else is running


@pytest.fixture(scope="module")
def full(client: Any, make_api: Any) -> Any:
    """The inference.sh API of a server with the default models."""
    return make_api(client)


def infer(api: Any, service: str, data: bytes, mime: str, **metadata: str) -> dict[str, Any]:
    """The response of /v1/infer."""
    body = {"service": service, "payload": base64.b64encode(data).decode(), "payload_mime": mime, "metadata": metadata}
    answer = api.client.post("/v1/infer?decode=1", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["data"]["result_json"]
    return result


def completed(api: Any, app: str, given: dict[str, Any]) -> dict[str, Any]:
    """The output of a task that went well."""
    ended = api.ended(api.run(app, given)["id"])
    assert (ended["status"], ended["error"]) == (9, None)
    output: dict[str, Any] = ended["output"]
    return output


def upload(api: Any, photo: bytes) -> str:
    uri: str = api.client.post("/files", files={"file": ("me.jpg", photo, "image/jpeg")}).json()["data"]["uri"]
    return uri


def test_an_image_is_embedded_as_through_v1_infer(full: Any, photo: bytes) -> None:
    wanted = infer(full, "embedding", photo, "image/jpeg")
    inline = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    for image in (upload(full, photo), inline):
        found = completed(full, "mien/embed", {"image": image})
        assert (found["dim"], found["model_id"]) == (1280, wanted["model_id"])
        assert np.linalg.norm(found["vector"]) == pytest.approx(1, abs=TOLERANCE)
        assert np.allclose(found["vector"], wanted["vector"], atol=TOLERANCE)


def test_another_image_has_another_vector(full: Any, photos: dict[str, bytes]) -> None:
    one, other = [
        completed(full, "mien/embed", {"image": upload(full, photos[name])})["vector"]
        for name in ("person_a_1", "person_b_1")
    ]
    assert np.dot(one, other) < 0.95


def test_a_text_is_embedded_as_through_v1_infer(full: Any) -> None:
    text = "a cat on a wall, très content"
    wanted = infer(full, "embedding", text.encode(), "text/plain")
    found = completed(full, "mien/embed", {"text": text})
    assert (found["dim"], found["model_id"]) == (384, wanted["model_id"])
    assert np.allclose(found["vector"], wanted["vector"], atol=TOLERANCE)


def test_an_image_is_classified_as_through_v1_infer(full: Any, photo: bytes) -> None:
    image = upload(full, photo)
    for given, metadata, count in (({}, {}, 5), ({"top_k": 3}, {"top_k": "3"}, 3)):
        wanted = infer(full, "classification", photo, "image/jpeg", **metadata)
        found = completed(full, "mien/classify", {"image": image, **given})
        assert [one["label"] for one in found["labels"]] == [one["label"] for one in wanted["labels"]]
        assert len(found["labels"]) == count
        assert {one["label"] for one in found["labels"][:2]} == {"suit", "Windsor tie"}
        scores = [[one["score"] for one in answer["labels"]] for answer in (found, wanted)]
        assert np.allclose(*scores, atol=TOLERANCE)
        assert scores[0] == sorted(scores[0], reverse=True)


@pytest.mark.parametrize(("app", "given", "word"), [
    ("mien/embed", {}, "input"),
    ("mien/embed", {"image": "data:,x", "text": "both"}, "input"),
    ("mien/classify", {"top_k": 3}, "input.image"),
    ("mien/classify", {"image": "data:,x", "top_k": 0}, "input.top_k"),
])  # fmt: skip
def test_input_that_cannot_be_used_is_refused_before_a_task_exists(
    full: Any, app: str, given: dict[str, Any], word: str
) -> None:
    answer = full.client.post("/run", json={"app": app, "input": given})
    assert answer.status_code == 422, answer.text
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize("app", ["mien/embed", "mien/classify"])
def test_what_is_no_image_fails_the_task_in_words(full: Any, app: str) -> None:
    ended = full.ended(full.run(app, {"image": "data:image/jpeg;base64,/9j/AAAA"})["id"])
    assert (ended["status"], ended["output"]) == (10, None)
    assert ended["error_code"] not in (None, "internal_error")
    assert "Traceback" not in ended["error"]
