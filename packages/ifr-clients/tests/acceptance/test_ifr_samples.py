"""Every code sample runs as it stands against a running Mien: the original documentation's, and ours."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ifr_clients import IFRClient, schemas

REPOSITORY = Path(__file__).parents[4]
SEED = Path(__file__).with_name("seed_samples.md")
CROPS = 'aligned_face1, aligned_face2 = (i["faces"][0]["facedata"] for i in results["data"][:2])\n'
FACES = 'print([(i["status"], len(i["faces"])) for i in results["data"]])\n'


def samples(page: Path) -> list[str]:
    """The Python samples of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


SYNC, ASYNC, SCHEMA, LOCAL, CROPPED = samples(SEED)


DOCUMENTED_PORT = "18081"


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """A working directory with the files that the samples name."""
    shutil.copy(photos / "person_a_1.jpg", tmp_path / "image.jpg")
    shutil.copy(photos / "person_b_1.jpg", tmp_path / "person.jpg")
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path


@pytest.fixture
def run(folder: Path, mien: str) -> Callable[..., str]:
    """What pieces of code print, one after the other in one program. Only the port is another one than documented."""

    def start(*pieces: str) -> str:
        program = folder / "program.py"
        program.write_text("\n".join(pieces).replace(DOCUMENTED_PORT, mien.rpartition(":")[2]))
        quiet = ["-W", "error", "-W", "ignore::ResourceWarning"]  # samples leave files to the garbage collector
        done = subprocess.run(
            [sys.executable, *quiet, program.name], cwd=folder, capture_output=True, text=True, timeout=80, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


def test_basic_usage_of_the_synchronous_client(run, mien):
    printed = run(SYNC, "import json; print(json.dumps(results))")

    *info, faces, raw = printed.splitlines()
    assert info[0].endswith(mien.replace("127.0.0.1", "localhost"))
    assert faces == "Detected faces: []"  # there is no such image: its status says so, and the list is empty
    (image,) = json.loads(raw)["data"]
    assert image["status"] == "error"
    assert image["error"]


def test_basic_usage_of_the_synchronous_client_with_a_url_that_exists(run, scripted, reply, photos):
    photo = (photos / "person_a_1.jpg").read_bytes()
    scripted.otherwise = reply(photo, headers={"Content-Type": "image/jpeg"})

    printed = run(SYNC.replace("https://example.com", scripted.host))

    assert printed.splitlines()[-1].startswith("Detected faces: [{'num_det': 0, 'prob': 0.9")
    assert scripted.seen[0].path == "/image2.jpg"


def test_basic_usage_of_the_asynchronous_client(run):
    printed = run(ASYNC)

    assert re.fullmatch(r"Landmarks: \[(\[\d+, \d+\](, )?){5}\]\n", printed)


def test_processing_local_images(run):
    printed = run(SYNC, LOCAL, FACES)

    embedding, crop, faces = printed.splitlines()[-3:]
    assert len(json.loads(embedding.removeprefix("Embedding: "))) == 512
    assert int(re.fullmatch(r"Face crop size: (\d+) bytes", crop)[1]) > 1000
    assert faces == "[('success', 1), ('success', 1), ('success', 1)]"


def test_handling_pre_cropped_faces(run):
    printed = run(SYNC, LOCAL, CROPS, CROPPED, FACES, 'print(len(results["data"][0]["faces"][0]["vec"]))')

    assert printed.splitlines()[-2:] == ["[('success', 1), ('success', 1)]", "512"]


def test_the_documented_schema_is_ours_and_the_answers_fit_it(mien, folder):
    documented: dict[str, Any] = {}
    prelude = "from __future__ import annotations\nfrom typing import *\nfrom pydantic import BaseModel\n"
    exec(prelude + SCHEMA + "Took = dict\nImageResponse.model_rebuild()\n", documented)  # noqa: S102
    theirs = documented["RecognitionResponse"]
    theirs.model_rebuild(_types_namespace=documented)

    for name in ("RecognitionResponse", "ImageResponse", "FacesResponse"):
        assert set(documented[name].model_fields) <= set(getattr(schemas, name).model_fields)
    with IFRClient(mien) as client:
        raw = client.extract([folder / "image.jpg"], mode="data", return_landmarks=True)
    assert theirs.model_validate(raw).data[0].faces[0].landmarks


@pytest.mark.parametrize("page", ["docs/ifr_clients.md", "packages/ifr-clients/README.md"])
def test_every_sample_of_our_own_pages_runs(run, page):
    assert run(*samples(REPOSITORY / page))


def test_the_manual_prints_what_it_means_to(run, folder):
    printed = run(*samples(REPOSITORY / "docs/ifr_clients.md"))

    assert "is a pathlib.Path, a file of this machine: send it with mode='data'" in printed
    assert "\n1 failed: " in printed
    assert "\n1 crops, 512 dimensions" in printed
    assert "\n422 invalid_field " in printed
    assert (folder / "face-0.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert (folder / "drawn.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_the_manual_names_every_parameter_and_error():
    import inspect

    import ifr_clients

    manual = (REPOSITORY / "docs/ifr_clients.md").read_text()
    names = [name for name in ifr_clients.__all__ if name.startswith("IFR")]
    for method in (IFRClient, IFRClient.extract, IFRClient.extract_many):
        names += [name for name in inspect.signature(method).parameters if name not in ("self", "options")]

    assert [name for name in names if f"`{name}`" not in manual and name not in manual] == []
