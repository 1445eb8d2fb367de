"""Answers in the shapes of an original InsightFace-REST server, which leaves keys out and speaks of ok and failed."""

import base64
import itertools

import ormsgpack
import pytest

from ifr_clients import RecognitionResponse

JPEG = b"\xff\xd8\xff\xe0 a crop"
TOOK = {"total_ms": 42.1}
FACE = {"bbox": [-3, 48, 139, 151], "prob": 0.93, "num_det": 0, "scale": 1.0, "size": 142}
LANDMARKS = {"landmarks": [[85, 87], [118, 85], [104, 105], [90, 121], [119, 119]]}
FACEDATA = {"facedata": base64.b64encode(JPEG).decode()}
EMBEDDING = {"norm": 21.5, "vec": [0.25, -0.5], "gender": None, "age": None, "mask": None, "mask_probs": None}
FAILED = {"status": "failed", "took_ms": 0.0, "faces": [], "traceback": "Can't decode file, possibly not an image"}
CROP = {**EMBEDDING, "bbox": [0, 0, 112, 112], "size": 112, "prob": 1.0, "status": "ok"}


def answer_of(*, extract_embedding, return_landmarks, return_face_data):
    face = FACE | (LANDMARKS if return_landmarks else {}) | (FACEDATA if return_face_data else {})
    face |= EMBEDDING if extract_embedding else {}
    return {"took": TOOK, "data": [{"status": "ok", "took_ms": 0.07, "faces": [face]}, FAILED]}


@pytest.mark.parametrize("use_msgpack", [True, False])
@pytest.mark.parametrize(
    ("extract_embedding", "return_landmarks", "return_face_data"), list(itertools.product([True, False], repeat=3))
)
def test_every_combination_of_flags_has_a_typed_answer(
    scripted, reply, client_factory, use_msgpack, extract_embedding, return_landmarks, return_face_data
):
    flags = {
        "extract_embedding": extract_embedding,
        "return_landmarks": return_landmarks,
        "return_face_data": return_face_data,
    }
    scripted.otherwise = reply(answer_of(**flags))

    answer = client_factory(scripted.host).extract(
        ["a.jpg", "b.jpg"], use_msgpack=use_msgpack, raw_response=False, **flags
    )

    assert isinstance(answer, RecognitionResponse)
    assert answer.took.total_ms == 42.1
    (face,) = answer.data[0].faces
    assert face.bbox == [-3, 48, 139, 151]
    assert face.vec == ([0.25, -0.5] if extract_embedding else None)
    assert face.landmarks == (LANDMARKS["landmarks"] if return_landmarks else None)
    assert face.facedata == (JPEG if return_face_data else None)
    assert [image.ok for image in answer.data] == [True, False]
    assert answer.data[1].reason == "Can't decode file, possibly not an image"


def test_raw_answers_are_as_they_came_but_for_the_crops(scripted, reply, client_factory):
    sent = answer_of(extract_embedding=True, return_landmarks=True, return_face_data=True)
    scripted.otherwise = reply(sent)

    got = client_factory(scripted.host).extract(["a.jpg", "b.jpg"], return_face_data=True)

    sent["data"][0]["faces"][0]["facedata"] = JPEG
    assert got == sent


def test_crops_have_another_envelope(scripted, reply, client_factory):
    image = {"status": "ok", "took_ms": 0, "faces": [CROP]}
    scripted.otherwise = reply({"took_ms": 5.5, "data": [image, image], "status": "ok"})
    client = client_factory(scripted.host)

    answer = client.extract([b"1", b"2"], mode="data", embed_only=True, raw_response=False)

    assert answer.took.total_ms == 5.5
    assert [image.faces[0].vec for image in answer.data] == [[0.25, -0.5]] * 2
    assert "took" not in client.extract([b"1", b"2"], mode="data", embed_only=True)


def test_a_crop_that_failed_has_not_succeeded_although_its_image_says_ok(scripted, reply, client_factory):
    bad = {"status": "ok", "took_ms": 0, "faces": [{"status": "failed", "traceback": "not an image"}]}
    scripted.otherwise = reply({"took_ms": 5.5, "data": [bad], "status": "ok"})

    answer = client_factory(scripted.host).extract([b"1"], mode="data", embed_only=True, raw_response=False)

    assert not answer.data[0].ok
    assert answer.data[0].reason == "not an image"


def test_crops_after_one_of_the_wrong_size_are_missing_and_have_failed(scripted, reply, client_factory):
    first = {"status": "ok", "took_ms": 0, "faces": [CROP]}
    scripted.otherwise = reply({"took_ms": 5.5, "data": [first], "status": "failed", "traceback": "size 100x100"})

    answer = client_factory(scripted.host).extract([b"1", b"2", b"3"], "data", embed_only=True, raw_response=False)

    assert [image.ok for image in answer.data] == [True, False, False]
    assert answer.data[2].reason == "size 100x100"


def test_crops_after_one_of_the_wrong_size_are_asked_for_again_in_a_collection(scripted, reply, client_factory):
    def answer(seen):
        crops = ormsgpack.unpackb(seen.body)["images"]["data"]
        fine = list(itertools.takewhile(lambda crop: crop != b"wrong", crops))
        data = [{"status": "ok", "took_ms": 0, "faces": [{**CROP, "of": crop}]} for crop in fine]
        failed = {} if len(fine) == len(crops) else {"traceback": "size 100x100"}
        return reply({"took_ms": 5.5, "data": data, "status": "failed" if failed else "ok", **failed})

    scripted.otherwise = answer
    crops = [b"1", b"wrong", b"3", b"wrong", b"wrong", b"6"]

    many = list(client_factory(scripted.host).extract_many(crops, mode="data", batch_size=6, embed_only=True))

    assert [image.get("error") or image["faces"][0]["of"] for image in many] == [
        b"1", "size 100x100", b"3", "size 100x100", "size 100x100", b"6",
    ]  # fmt: skip


def test_drawn_images_are_jpeg_whatever_they_are_called(scripted, reply, client_factory):
    scripted.otherwise = reply(JPEG, headers={"Content-Type": "image/png"})

    assert client_factory(scripted.host).draw("test_images/Stallone.jpg") == JPEG
