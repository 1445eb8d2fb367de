"""One image gives the same faces whichever way it comes in and the answer goes out."""

import base64
import itertools
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest

MSGPACK = "application/msgpack"
X_MSGPACK = "application/x-msgpack"
NAMES = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
Way = Callable[[httpx2.Client, list[str], dict[str, bytes], str], httpx2.Response]


def as_json(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    return client.post("/extract", json={"images": {"data": [base64.b64encode(photos[n]).decode() for n in names]}})


def as_data_uri(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    data = [f"data:image/jpeg;base64,{base64.b64encode(photos[n]).decode()}" for n in names]
    return client.post("/extract", json={"images": {"data": data}})


def as_messagepack(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    body = ormsgpack.packb({"images": {"data": [photos[n] for n in names]}, "msgpack": True})
    return client.post("/extract", content=body, headers={"Content-Type": MSGPACK})


def as_base64_in_messagepack(
    client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str
) -> httpx2.Response:
    body = ormsgpack.packb({"images": {"data": [base64.b64encode(photos[n]).decode() for n in names]}})
    return client.post("/extract", content=body, headers={"Content-Type": X_MSGPACK, "Accept": X_MSGPACK})


def as_urls(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    return client.post("/extract", json={"images": {"urls": [f"{web}/people/{n}.jpg" for n in names]}})


def as_paths(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    return client.post("/extract", json={"images": {"urls": [f"people/{n}.jpg" for n in names]}})


def as_upload(client: httpx2.Client, names: list[str], photos: dict[str, bytes], web: str) -> httpx2.Response:
    return client.post("/multipart/extract", files=[("file", (f"{n}.jpg", photos[n])) for n in names])


WAYS = (as_json, as_data_uri, as_messagepack, as_base64_in_messagepack, as_urls, as_paths, as_upload)


def decoded(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = (
        ormsgpack.unpackb(response.content) if "msgpack" in response.headers["content-type"] else response.json()
    )
    return answer


def vectors(answer: dict[str, Any]) -> np.ndarray:
    return np.array([image["faces"][0]["vec"] for image in answer["data"]], np.float64)


@pytest.fixture(scope="module")
def by_way(client: httpx2.Client, photos: dict[str, bytes], web: str) -> dict[str, dict[str, Any]]:
    return {way.__name__: decoded(way(client, list(NAMES), photos, web)) for way in WAYS}


@pytest.mark.parametrize("way", [way.__name__ for way in WAYS])
def test_every_photo_shows_its_one_face(by_way: dict[str, dict[str, Any]], way: str) -> None:
    assert [(image["status"], len(image["faces"])) for image in by_way[way]["data"]] == [("success", 1)] * 6


@pytest.mark.parametrize("way", [way.__name__ for way in WAYS])
def test_vectors_have_512_numbers_and_length_1(by_way: dict[str, dict[str, Any]], way: str) -> None:
    found = vectors(by_way[way])
    assert found.shape == (6, 512)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("way", [way.__name__ for way in WAYS[1:]])
def test_vectors_are_the_same_whichever_way_they_travel(by_way: dict[str, dict[str, Any]], way: str) -> None:
    difference = float(np.abs(vectors(by_way[way]) - vectors(by_way["as_json"])).max())
    assert difference <= 1e-6, f"max abs difference {difference:.2e}"


def test_the_same_person_is_above_and_everybody_else_below_the_threshold(
    by_way: dict[str, dict[str, Any]], client: httpx2.Client
) -> None:
    threshold = client.get("/info").json()["models"]["same_threshold"]
    found = vectors(by_way["as_json"])
    for (i, one), (j, other) in itertools.combinations(enumerate(NAMES), 2):
        same = one[:-2] == other[:-2] and one.startswith("person")
        similarity = float(found[i] @ found[j])
        assert (similarity >= threshold) == same, f"{one} and {other}: {similarity:.3f}, threshold {threshold}"


@pytest.mark.full
def test_a_batch_of_64_gives_what_64_single_requests_give(client: httpx2.Client, photos: dict[str, bytes]) -> None:
    names = [NAMES[i % 6] for i in range(64)]
    together = vectors(decoded(as_messagepack(client, names, photos, "")))
    alone = np.vstack([vectors(decoded(as_messagepack(client, [name], photos, ""))) for name in names])
    difference = float(np.abs(together - alone).max())
    assert together.shape == (64, 512)
    assert difference <= 1e-4, f"max abs difference {difference:.2e}"
    print(f"batch of 64 = 64 singles: max abs difference {difference:.2e}")  # noqa: T201 - seen with -s and -rA


# --- content types


@pytest.mark.parametrize(
    "sent", [MSGPACK, X_MSGPACK, f"{MSGPACK}; charset=utf-8", f"{X_MSGPACK};v=1", "APPLICATION/MSGPACK"]
)
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        (X_MSGPACK, X_MSGPACK),
        (f"{MSGPACK}, */*", MSGPACK),
        (f"{X_MSGPACK};q=0", "application/json"),
    ],
)
def test_what_is_sent_and_what_is_asked_for_are_apart(
    client: httpx2.Client, photo: bytes, sent: str, accept: str, expected: str
) -> None:
    body = ormsgpack.packb({"images": {"data": [photo]}, "extract_embedding": False})
    response = client.post("/extract", content=body, headers={"Content-Type": sent, "Accept": accept})
    assert response.headers["content-type"] == expected
    assert len(decoded(response)["data"][0]["faces"]) == 1


def test_a_request_without_accept_and_content_type_is_json(client: httpx2.Client, photo: bytes) -> None:
    body = b'{"images": {"data": ["%s"]}, "extract_embedding": false}' % base64.b64encode(photo)
    request = client.build_request("POST", "/extract", content=body)
    for header in ("accept", "content-type"):
        request.headers.pop(header, None)
    response = client.send(request)
    assert response.headers["content-type"] == "application/json"
    assert len(decoded(response)["data"][0]["faces"]) == 1


@pytest.mark.parametrize("sent", ["text/plain", "image/jpeg", "multipart/form-data; boundary=x"])
def test_other_content_types_are_415(client: httpx2.Client, sent: str) -> None:
    response = client.post("/extract", content=b'{"images": {}}', headers={"Content-Type": sent})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_floats_in_messagepack_are_short(client: httpx2.Client, photo: bytes) -> None:
    body = ormsgpack.packb({"images": {"data": [photo]}, "msgpack": True})
    response = client.post("/extract", content=body, headers={"Content-Type": MSGPACK})
    assert len(response.content) < 3500


# --- urls, paths, data


def one(response: httpx2.Response) -> dict[str, Any]:
    (image,) = decoded(response)["data"]
    return dict(image)


def test_no_images_are_no_error(client: httpx2.Client) -> None:
    for images in ({}, {"data": []}, {"urls": []}, {"data": None, "urls": None}):
        answer = decoded(client.post("/extract", json={"images": images}))
        assert answer["data"] == []
        assert answer["took"]["total_ms"] >= 0


@pytest.mark.parametrize("urls", [[], None])
def test_empty_urls_hide_no_data(client: httpx2.Client, photo: bytes, urls: list[str] | None) -> None:
    images = {"data": [base64.b64encode(photo).decode()], "urls": urls}
    assert len(one(client.post("/extract", json={"images": images}))["faces"]) == 1


def test_urls_win_over_data(client: httpx2.Client) -> None:
    images = {"data": ["bm90IGEgcGljdHVyZQ=="], "urls": ["people/person_a_1.jpg"]}
    assert len(one(client.post("/extract", json={"images": images}))["faces"]) == 1


def test_headers_of_the_request_reach_the_image_s_server(client: httpx2.Client, web: str) -> None:
    images = {"urls": [f"{web}/guarded/people/person_a_1.jpg"]}
    without = one(client.post("/extract", json={"images": images}))
    assert without["status"] == "error"
    assert "401" in without["error"]
    given = one(client.post("/extract", json={"images": images, "img_req_headers": {"X-Token": "sesame"}}))
    assert len(given["faces"]) == 1


def test_one_missing_url_fails_alone(client: httpx2.Client, web: str) -> None:
    urls = [
        f"{web}/people/person_a_1.jpg",
        f"{web}/nothing.jpg",
        "http://127.0.0.1:1/x.jpg",
        f"{web}/people/person_b_1.jpg",
    ]
    answer = decoded(client.post("/extract", json={"images": {"urls": urls}}))
    assert [image["status"] for image in answer["data"]] == ["success", "error", "error", "success"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg",
        "people/../../x.jpg",
        "/etc/passwd",
        "link.jpg",
        "links/secret.jpg",
        "people",
        "",
        "file:///etc/passwd",
        "people/missing.jpg",
        "people/person_a_1.jpg\0",
        "..\\secret.jpg",
        "~/secret.jpg",
        "ftp://127.0.0.1/x.jpg",
    ],
)
def test_paths_lead_nowhere_else_and_errors_tell_no_server_path(
    client: httpx2.Client, images_root: Any, path: str
) -> None:
    image = one(client.post("/extract", json={"images": {"urls": [path]}}))
    assert (image["status"], image["faces"]) == ("error", [])
    assert image["error"]
    assert str(images_root) not in image["error"]
    assert "outside" not in image["error"]
    assert "Traceback" not in image["error"]


@pytest.mark.parametrize(
    "headers", [{"X-Bad": "a\r\nX-Injected: b"}, {"X Y": "1"}, {"X-U": "ü☃"}, {"": "x"}, {"Host": "evil"}]
)
def test_odd_headers_for_urls_fail_the_image_not_the_request(
    client: httpx2.Client, web: str, headers: dict[str, str]
) -> None:
    body = {"images": {"urls": [f"{web}/people/person_a_1.jpg"]}, "img_req_headers": headers}
    response = client.post("/extract", json=body)
    assert response.status_code in (200, 422), response.text
