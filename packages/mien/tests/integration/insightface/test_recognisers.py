"""Several recognisers side by side: requests choose among those that the operator allowed."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

DIMENSIONS = {"fr_feature": 512, "sface": 128}
THRESHOLDS = {"fr_feature": 0.45, "sface": 0.4}


@pytest.fixture(scope="module")
def several(serve_module: Callable[..., Any], light: dict[str, str]) -> httpx2.Client:
    client: httpx2.Client = serve_module(**light, recognisers="sface,fr_feature").client
    return client


def asked(client: httpx2.Client, route: str, *photos: bytes, **parameters: Any) -> httpx2.Response:
    images = {"data": [base64.b64encode(photo).decode() for photo in photos]}
    return client.post(route, json={"images": images, **parameters})


def test_info_lists_them_the_default_first(several: httpx2.Client) -> None:
    listed = several.get("/info").json()["models"]["recognisers"]
    assert [model["name"] for model in listed] == ["fr_feature", "sface"]
    assert {model["name"]: model["same_threshold"] for model in listed} == THRESHOLDS
    assert {model["name"]: model["embedding_dim"] for model in listed} == DIMENSIONS


@pytest.mark.parametrize("name", ["fr_feature", "sface"])
@pytest.mark.parametrize("spelling", ["recogniser", "recognizer"])
def test_extract_embeds_with_the_chosen_one_and_says_so(
    several: httpx2.Client, photo: bytes, name: str, spelling: str
) -> None:
    answer = asked(several, "/extract", photo, **{spelling: name}).json()
    assert (answer["model"], answer["same_threshold"]) == (name, THRESHOLDS[name])
    assert len(answer["data"][0]["faces"][0]["vec"]) == DIMENSIONS[name]


def test_without_a_choice_nothing_is_different(several: httpx2.Client, photo: bytes) -> None:
    answer = asked(several, "/extract", photo).json()
    assert set(answer) == {"took", "data"}
    assert len(answer["data"][0]["faces"][0]["vec"]) == DIMENSIONS["fr_feature"]


def test_compare_uses_the_threshold_of_the_chosen_one(several: httpx2.Client, photos: dict[str, bytes]) -> None:
    pair = (photos["person_b_1"], photos["person_b_2"])
    answers = {name: asked(several, "/compare", *pair, recogniser=name).json() for name in THRESHOLDS}
    assert {name: answer["threshold"] for name, answer in answers.items()} == THRESHOLDS
    assert {name: answer["model"] for name, answer in answers.items()} == {name: name for name in THRESHOLDS}
    assert answers["sface"]["similarity"] != answers["fr_feature"]["similarity"]
    assert answers["sface"]["same"] == [[True]]


def test_a_form_chooses_too(several: httpx2.Client, photo: bytes) -> None:
    answer = several.post("/multipart/extract", files={"file": photo}, data={"recogniser": "sface"}).json()
    assert answer["model"] == "sface"


def test_v1_infer_chooses_by_metadata(several: httpx2.Client, photo: bytes) -> None:
    query = {"service": "face_recognition", "decode": "1", "metadata": json.dumps({"recogniser": "sface"})}
    response = several.post("/v1/infer", params=query, content=photo, headers={"Content-Type": "image/jpeg"})
    result = response.json()["data"]["result_json"]
    assert (result["model_id"], result["same_threshold"]) == ("sface", 0.4)
    assert len(result["faces"][0]["embedding"]) == 128


@pytest.mark.parametrize("route", ["/extract", "/compare"])
@pytest.mark.parametrize("name", ["w600k_r50", "yunet", "no such model", ""])
def test_any_other_is_refused_with_the_names_of_those_allowed(
    several: httpx2.Client, photo: bytes, route: str, name: str
) -> None:
    response = asked(several, route, photo, photo, recogniser=name)
    assert response.status_code == 422
    assert "this server has fr_feature, sface" in response.json()["error"]["message"]


def test_a_server_that_allows_none_has_its_own(client: httpx2.Client, photo: bytes) -> None:
    assert "recognisers" not in client.get("/info").json()["models"]
    assert asked(client, "/extract", photo, recogniser="fr_feature").json()["model"] == "fr_feature"
    assert asked(client, "/extract", photo, recogniser="sface").status_code == 422


@pytest.mark.full
def test_a_detector_is_no_recogniser(mien: Callable[..., Any]) -> None:
    run = mien("serve", "--port", "0", recognisers="yunet")
    assert run.returncode == 1
    assert "MIEN_RECOGNISERS: yunet is of the family yunet" in run.stderr


def test_one_of_them_is_unloaded_and_loaded_while_the_server_runs(several: httpx2.Client, photo: bytes) -> None:
    assert several.post("/models/sface/unload").status_code == 200
    refused = asked(several, "/extract", photo, recogniser="sface")
    assert refused.status_code == 503
    assert "sface" in refused.json()["error"]["message"]
    assert asked(several, "/extract", photo).status_code == 200
    assert several.post("/models/sface/load").status_code == 200
    assert asked(several, "/extract", photo, recogniser="sface").json()["model"] == "sface"
