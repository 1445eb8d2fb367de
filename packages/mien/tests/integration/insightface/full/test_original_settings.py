"""A server that is set as one of the original: its words, and its defaults of parameters."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import pytest
from PIL import Image


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def original(serve_module: Callable[..., Any], light: dict[str, str]) -> httpx2.Client:
    server = serve_module(
        status_words="ok",
        default_return_landmarks=True,
        default_return_face_data=True,
        default_extract_embedding=False,
        **light,
    )
    return server.client  # type: ignore[no-any-return]


@pytest.fixture
def crop(photo: bytes) -> bytes:
    out = BytesIO()
    Image.open(BytesIO(photo)).convert("RGB").resize((112, 112)).save(out, "PNG")
    return out.getvalue()


def asked(client: httpx2.Client, *images: str, **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/extract", json={"images": {"data": images}, **parameters}).json()
    return answer


def test_images_are_ok_or_failed(original: httpx2.Client, photo: bytes) -> None:
    answer = asked(original, b64(photo), "!", extract_ga=True)
    assert [image["status"] for image in answer["data"]] == ["ok", "failed"]
    assert answer["data"][1]["traceback"] == answer["data"][1]["error"]
    (face,) = answer["data"][0]["faces"]
    assert (face["age"], face["gender"]) == (None, None)
    assert "status" not in face


def test_crops_have_the_envelope_of_the_original(original: httpx2.Client) -> None:
    assert set(asked(original, embed_only=True)) == {"took", "took_ms", "data", "status"}


def test_each_crop_says_how_it_went(original: httpx2.Client, crop: bytes, photo: bytes) -> None:
    done, wrong, broken = asked(original, b64(crop), b64(photo), "!", embed_only=True, extract_embedding=True)["data"]
    (face,) = done["faces"]
    assert (face["status"], face["bbox"], face["size"], face["prob"]) == ("ok", [0, 0, 112, 112], 112, 1.0)
    assert len(face["vec"]) == 512
    for image in (wrong, broken):
        assert image["status"] == "failed"
        assert image["faces"] == [{"status": "failed", "traceback": image["error"]}]
    assert "112x112" in wrong["error"]


def test_crops_of_other_servers_have_no_status_of_their_own(client: httpx2.Client, crop: bytes) -> None:
    done, broken = asked(client, b64(crop), "!", embed_only=True)["data"]
    assert "status" not in done["faces"][0]
    assert broken["faces"] == []


@pytest.mark.parametrize("way", ["json", "form"])
def test_what_a_request_does_not_say_is_as_the_server_is_set(original: httpx2.Client, photo: bytes, way: str) -> None:
    def first(**parameters: Any) -> dict[str, Any]:
        if way == "json":
            answer = asked(original, b64(photo), **parameters)
        else:
            answer = original.post("/multipart/extract", files={"file": photo}, data=parameters).json()
        face: dict[str, Any] = answer["data"][0]["faces"][0]
        return face

    face = first()
    assert (face["vec"], len(face["landmarks"]), face["facedata"][:4]) == (None, 5, "/9j/")
    face = first(extract_embedding="true", return_landmarks="false", return_face_data="false")
    assert (len(face["vec"]), face["landmarks"], face["facedata"]) == (512, None, None)
    if way == "json":
        assert first(extract_embedding=None, return_landmarks=None)["landmarks"] is not None


def test_info_tells_these_defaults(original: httpx2.Client) -> None:
    defaults = original.get("/info").json()["defaults"]
    assert defaults == {
        "return_face_data": True,
        "return_landmarks": True,
        "extract_embedding": False,
        "extract_ga": False,
        "detect_masks": False,
        "det_thresh": 0.6,
        "img_req_headers": {},
        "sslv3_hack": False,
    }


def test_a_comparison_has_vectors_whatever_the_default(original: httpx2.Client, photo: bytes) -> None:
    answer = original.post("/compare", json={"images": {"data": [b64(photo)] * 2}}).json()
    assert answer["same"] == [[True]]
    assert answer["faces"][0][0]["facedata"] is None
