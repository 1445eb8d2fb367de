"""What goes over the wire, and what of it goes where."""

import base64
import io
import json
import ssl
from pathlib import Path

import numpy as np
import ormsgpack
import PIL.Image
import pytest

from ifr_clients import IFRClient

JPEG = b"\xff\xd8\xff\xe0 an image"
FIELDS = {
    "threshold": 0.6,
    "extract_embedding": True,
    "return_face_data": False,
    "return_landmarks": False,
    "embed_only": False,
    "limit_faces": 0,
    "min_face_size": 0,
    "img_req_headers": {},
    "extract_ga": False,
    "detect_masks": False,
    "verbose_timings": False,
}


def test_msgpack_carries_bytes_under_the_words_that_original_servers_know(scripted, client_factory):
    client_factory(scripted.host).extract([JPEG], mode="data")

    (seen,) = scripted.seen
    assert (seen.method, seen.path) == ("POST", "/extract")
    assert seen.headers["content-type"] == "application/msgpack"
    assert seen.headers["accept"] == "application/x-msgpack"
    assert ormsgpack.unpackb(seen.body) == {"images": {"data": [JPEG]}, "msgpack": True, **FIELDS}


def test_json_carries_base64(scripted, client_factory):
    client_factory(scripted.host).extract([JPEG], mode="data", use_msgpack=False)

    (seen,) = scripted.seen
    assert seen.headers["content-type"] == seen.headers["accept"] == "application/json"
    expected = {"images": {"data": [base64.b64encode(JPEG).decode()]}, "msgpack": False, **FIELDS}
    assert json.loads(seen.body) == expected


def test_every_argument_of_extract_arrives(scripted, client_factory):
    options = {
        "threshold": 0.5,
        "extract_embedding": False,
        "return_face_data": True,
        "return_landmarks": True,
        "embed_only": True,
        "limit_faces": 3,
        "min_face_size": 40,
        "img_req_headers": {"Authorization": "Basic eDp5"},
        "extract_ga": True,
        "detect_masks": True,
        "verbose_timings": True,
        "return_quality": True,
        "return_pose": True,
        "return_landmarks_68": True,
        "recogniser": "sface",
        "detection_size": "full",
    }

    client_factory(scripted.host).extract(["https://example.com/ä.jpg"], use_msgpack=False, **options)

    assert json.loads(scripted.seen[0].body) == {
        "images": {"urls": ["https://example.com/ä.jpg"]}, "msgpack": False, **options,
    }  # fmt: skip


def test_the_key_and_headers_go_to_the_own_server_only(scripted, scripted_factory, client_factory):
    other = scripted_factory()
    scripted.otherwise.body = other.otherwise.body = {"models": {}}
    client = client_factory(scripted.host, api_key="secret-key", headers={"X-Tenant": "a"})

    client.server_info(show=False)
    client.server_info(scripted.host + "/", show=False)
    client.server_info(other.host, show=False)

    for seen in scripted.seen:
        assert seen.headers["authorization"] == "Bearer secret-key"
        assert seen.headers["x-tenant"] == "a"
        assert seen.headers["user-agent"].startswith("ifr-clients/")
    assert len(scripted.seen) == 2
    assert "secret" not in str(other.seen[0].headers)
    assert "x-tenant" not in other.seen[0].headers


def test_a_server_may_live_under_a_path(scripted, client_factory):
    client_factory(f"{scripted.host}/faces/").extract([])

    assert scripted.seen[0].path == "/faces/extract"


def test_info_is_printed_for_the_server_that_was_asked(scripted, scripted_factory, client_factory, capsys):
    other = scripted_factory()
    models = {
        "inference_backend": "trt", "det_name": "scrfd_10g", "rec_name": "w600k_r50", "max_size": [640, 480],
        "rec_batch_size": 64, "det_batch_size": 8,
    }  # fmt: skip
    other.otherwise.body = {"version": "0.9.5.0", "models": models}
    client = client_factory(scripted.host)

    info = client.server_info(server=other.host)

    assert info["models"] == models
    assert capsys.readouterr().out == (
        f"server:      {other.host}\n"
        "version:     0.9.5.0\n"
        "backend:     trt\n"
        "detection:   scrfd_10g, batch size 8\n"
        "recognition: w600k_r50, batch size 64\n"
        "image size:  640 x 480\n"
    )
    client.server_info(other.host, False)
    assert capsys.readouterr().out == ""


def test_drawing_speaks_json_and_returns_the_jpeg(scripted, client_factory):
    scripted.otherwise.body = JPEG

    drawn = client_factory(scripted.host).draw(JPEG, mode="data", draw_scores=False, limit_faces=1)

    assert drawn == JPEG
    body = json.loads(scripted.seen[0].body)
    assert body == {
        "images": {"data": [base64.b64encode(JPEG).decode()]},
        "img_req_headers": {},
        "draw_scores": False,
        "limit_faces": 1,
    }


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("extract", {"data": [JPEG]}),
        ("extract", {"data": ["http://example.com/a.jpg"], "mode": "data"}),
        ("extract", {"data": "http://example.com/a.jpg"}),
        ("extract", {"data": [], "timeout": 0}),
        ("compare", {"first": JPEG, "second": JPEG}),
        ("draw", {"image": Path("a.jpg")}),
        ("extract_many", {"data": [], "mode": "file"}),
        ("extract_many", {"data": [], "batch_size": 0}),
        ("extract_many", {"data": [], "concurrency": 0}),
        ("extract_many", {"data": JPEG, "batch_size": 2}),
    ],
)
def test_a_wrong_argument_is_a_value_error_before_anything_is_sent(scripted, client_factory, method, arguments):
    client = client_factory(scripted.host)

    with pytest.raises(ValueError, match=r"expected|mode="):
        list(getattr(client, method)(**arguments))

    assert scripted.seen == []


def test_a_missing_file_is_an_os_error_before_anything_is_sent(scripted, client_factory, tmp_path):
    with pytest.raises(FileNotFoundError):
        client_factory(scripted.host).extract([tmp_path / "none.jpg"], mode="data")

    assert scripted.seen == []


def test_https_is_verified_unless_told_otherwise(scripted_factory, client_factory):
    here = Path(__file__).parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(here / "ifr_localhost.pem")
    server = scripted_factory(lambda listener: context.wrap_socket(listener, server_side=True))

    with pytest.raises(ConnectionError, match=r"(?i)certificate"):
        client_factory(server.host, retries=0).health()
    trusting = ssl.create_default_context(cafile=here / "ifr_localhost.pem")
    assert client_factory(server.host, verify=trusting).health() == server.otherwise.body


def test_the_connection_is_kept(scripted):
    with IFRClient(scripted.host) as client:
        for _ in range(5):
            client.extract([])

    assert len({seen.peer for seen in scripted.seen}) == 1


@pytest.mark.parametrize("method", ["extract", "extract_many"])
def test_no_collection_is_a_type_error_before_anything_is_sent(scripted, client_factory, method):
    with pytest.raises(TypeError, match="data is NoneType; expected a list of images"):
        getattr(client_factory(scripted.host), method)(None)

    assert scripted.seen == []


def test_numbers_of_numpy_are_numbers_and_other_objects_are_named(scripted, client_factory):
    client = client_factory(scripted.host)

    for msgpack in (True, False):
        client.extract([], threshold=np.float32(0.5), limit_faces=np.int64(3), use_msgpack=msgpack)
        with pytest.raises(TypeError, match="object"):
            client.extract([], threshold=object(), use_msgpack=msgpack)

    assert json.loads(scripted.seen[1].body)["threshold"] == 0.5


def test_pixels_and_open_files_are_sent_as_images(scripted, client_factory):
    images = [io.BytesIO(JPEG), np.zeros((2, 3, 3), np.uint8), PIL.Image.new("RGB", (3, 2))]

    client_factory(scripted.host).extract(images, mode="data")

    first, array, pil = ormsgpack.unpackb(scripted.seen[0].body)["images"]["data"]
    assert first == JPEG
    assert {PIL.Image.open(io.BytesIO(png)).size for png in (array, pil)} == {(3, 2)}
