"""Both clients against a running Mien, through every method."""

import base64
import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ifr_clients import IFRRejected, RecognitionResponse

FLAGS = ("extract_embedding", "return_landmarks", "return_face_data", "extract_ga", "detect_masks", "verbose_timings")


@pytest.fixture
def photo(photos):
    return photos / "person_a_1.jpg"


@pytest.fixture
def client(mien, client_factory):
    return client_factory(mien)


COMBINATIONS = [
    values
    for values in itertools.product([True, False], repeat=len(FLAGS))
    if min(sum(values), len(FLAGS) - sum(values)) < 2
]
"""All flags or none, and all but one."""


@pytest.mark.parametrize("use_msgpack", [True, False])
def test_flags_have_a_typed_answer(client, photo, use_msgpack):
    for values in COMBINATIONS:
        flags = dict(zip(FLAGS, values, strict=True))
        answer = client.extract([photo], mode="data", use_msgpack=use_msgpack, raw_response=False, **flags)

        assert isinstance(answer, RecognitionResponse)
        (face,) = answer.data[0].faces
        assert (face.vec is not None) == flags["extract_embedding"]
        assert (face.landmarks is not None) == flags["return_landmarks"]
        assert (face.facedata or b"").startswith(b"\xff\xd8\xff") == flags["return_face_data"]
        assert (face.age is not None) == (face.gender is not None) == flags["extract_ga"]
        assert (face.mask is not None) == flags["detect_masks"]
        assert (answer.took.read_imgs_ms is not None) == flags["verbose_timings"]


@pytest.mark.parametrize("use_msgpack", [True, False])
def test_quality_pose_and_68_landmarks_have_types(client, photo, use_msgpack):
    asked = {"return_quality": True, "return_pose": True, "return_landmarks_68": True}
    answer = client.extract([photo], mode="data", use_msgpack=use_msgpack, raw_response=False, **asked)
    compared = client.compare(photo, photo, mode="data", use_msgpack=use_msgpack, raw_response=False, **asked)

    for face in (answer.data[0].faces[0], compared.faces[0][0]):
        assert 0 < face.quality < 1
        assert abs(face.pose.roll) < 20
        assert len(face.landmarks_68) == 68


@pytest.mark.parametrize("use_msgpack", [True, False])
def test_crops_have_a_typed_answer(client, photo, use_msgpack):
    found = client.extract([photo], mode="data", return_face_data=True, raw_response=False).data[0].faces[0]

    answer = client.extract(
        [found.facedata, b"no image"], mode="data", embed_only=True, use_msgpack=use_msgpack, raw_response=False
    )

    assert [image.ok for image in answer.data] == [True, False]
    again = answer.data[0].faces[0].vec
    assert sum(a * b for a, b in zip(found.vec, again, strict=True)) > 0.98  # JPEG changes it a little


@pytest.mark.parametrize("use_msgpack", [True, False])
def test_a_image_may_come_in_any_form(client, photo, use_msgpack):
    data = photo.read_bytes()
    text = base64.b64encode(data).decode()
    pixels = PIL.Image.open(photo).convert("RGB")
    array = np.asarray(pixels)[:, :, ::-1]  # OpenCV's order
    forms = [data, bytearray(data), memoryview(data), photo, text, f"data:image/jpeg;base64,{text}", io.BytesIO(data)]
    forms += [PIL.Image.open(photo), pixels, array]

    answer = client.extract(forms, mode="data", use_msgpack=use_msgpack)

    boxes = [[face["bbox"] for face in image["faces"]] for image in answer["data"]]
    assert boxes == [boxes[0]] * len(forms)
    assert len(boxes[0]) == 1
    vectors = [np.array(image["faces"][0]["vec"]) for image in answer["data"]]
    assert min(float(vectors[0] @ vector) for vector in vectors) > 0.999


def test_the_server_reads_urls_and_its_own_paths(client, photo, scripted, reply):
    scripted.otherwise = reply(photo.read_bytes(), headers={"Content-Type": "image/jpeg"})
    headers = {"X-Ticket": "42"}

    answer = client.extract(
        [f"{scripted.host}/a.jpg", photo.name, str(photo), "none.jpg"], img_req_headers=headers, raw_response=False
    )

    assert [image.ok for image in answer.data] == [True, True, True, False]
    assert scripted.seen[0].headers["x-ticket"] == "42"


def test_msgpack_and_json_give_the_same_faces(client, photo):
    one, other = (client.extract([photo], mode="data", use_msgpack=use)["data"][0]["faces"] for use in (True, False))

    assert one[0].pop("vec") == pytest.approx(other[0].pop("vec"), abs=1e-6)
    assert one[0].pop("norm") == pytest.approx(other[0].pop("norm"))
    assert one[0].keys() == other[0].keys()
    assert one[0]["bbox"] == other[0]["bbox"]


def test_info_and_health(client, mien, capsys):
    info = client.server_info()

    assert client.health() == {"status": "ok"}
    assert capsys.readouterr().out.startswith(f"server:      {mien}\n")
    assert info["models"]["det_name"] in client.server_info(show=False)["models"].values()


def test_faces_are_compared(client, photos):
    same = client.compare(photos / "person_a_1.jpg", photos / "person_a_2.jpg", mode="data", raw_response=False)
    other = client.compare(photos / "person_a_1.jpg", photos / "person_b_1.jpg", mode="data", use_msgpack=False)

    assert same.same == [[True]]
    assert other["same"] == [[False]]


def test_faces_are_drawn(client, photo):
    plain = client.draw(photo, mode="data", threshold=1.0)
    drawn = client.draw(photo, mode="data")

    assert plain.startswith(b"\xff\xd8\xff")
    assert drawn.startswith(b"\xff\xd8\xff")
    assert plain != drawn


def test_a_image_that_cannot_be_drawn_on_is_a_refusal(client):
    with pytest.raises(IFRRejected) as caught:
        client.draw(b"no image", mode="data")

    assert caught.value.status == 422
    assert caught.value.request_id


def test_a_wrong_field_is_named_by_the_server(client):
    with pytest.raises(IFRRejected, match="threshold") as caught:
        client.extract([], threshold=2)

    assert (caught.value.status, caught.value.code) == (422, "invalid_field")


def test_many_images_come_back_in_order(client, photos):
    paths = sorted(photos.glob("*.jpg")) * 4
    single = {path: client.extract([path], mode="data")["data"][0]["faces"][0]["bbox"] for path in set(paths)}

    results = client.extract_many(paths, mode="data", batch_size=3, concurrency=3)

    assert [result["faces"][0]["bbox"] for result in results] == [single[path] for path in paths]


def test_a_folder_is_indexed_and_searched(mien, photos, tmp_path):
    (tmp_path / "album").mkdir()
    for photo in photos.glob("person_*.jpg"):
        (tmp_path / "album" / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "album" / "broken.jpg").write_bytes(b"no image")
    example = Path(__file__).parents[4] / "examples/index_folder.py"
    host, port = mien.rsplit(":", 1)

    def run(*arguments):
        command = [sys.executable, example, tmp_path / "album", "--host", host, "--port", port, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first, again = run(), run()
    found = run("--find", photos / "person_a_1.jpg")

    assert "5/5" in first.stderr
    assert "broken.jpg" in first.stderr
    assert "1/1" in again.stderr
    assert first.returncode == again.returncode == 1
    assert [line.split()[1] for line in found.stdout.splitlines()] == ["person_a_1.jpg", "person_a_2.jpg"]
