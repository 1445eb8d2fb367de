"""A client and servers with API keys, that are not ready yet, or that are killed and started again."""

import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from ifr_clients import IFRClient, IFRConnectionError, IFRRejected
from testing.ports import free_port
from testing.waiting import eventually


@pytest.fixture
def photo(photos):
    return photos / "person_a_1.jpg"


def test_a_server_with_keys_wants_one(mien_factory, tmp_path, photo):
    command = [sys.executable, "-m", "mien", "keys", "create", "tests"]
    environment = {**os.environ, "MIEN_DATA_DIR": str(tmp_path)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (key,) = re.findall(r"\bmien_\S+|\b[\w-]{32,}\b", made.stdout)
    with mien_factory(MIEN_DATA_DIR=str(tmp_path)) as address:
        with pytest.raises(IFRRejected) as caught:
            IFRClient(address).extract([photo], mode="data")
        assert (caught.value.status, caught.value.code) == (401, "unauthorized")

        assert IFRClient(address, api_key=key).extract([photo], mode="data")["data"][0]["status"] == "success"


def test_a_server_that_is_not_there_yet_is_waited_for(mien_factory, client_factory, photo):
    port = free_port()
    client = client_factory("http://127.0.0.1", port)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.extract, [photo], mode="data")
        with mien_factory(port, ready=False):
            assert call.result()["data"][0]["status"] == "success"


class Mien:
    """A server that can be killed and started again on its port."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        models = dict.fromkeys(("AGE", "GENDER", "MASK", "IMAGE", "TEXT"), "none")
        settings = {f"MIEN_{name}_MODEL": value for name, value in models.items()}
        environment = {**os.environ, **settings, "MIEN_DATA_DIR": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "mien", "serve", "--port", str(self.port)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def is_at_work(self):
        """Whether it has images that are queued or running."""
        try:
            with urllib.request.urlopen(f"{self.address}/metrics", timeout=5) as metrics:
                return re.search(rb"^mien_queued_images [1-9]", metrics.read(), re.MULTILINE) is not None
        except OSError:
            return False


@pytest.fixture
def server(tmp_path):
    mien = Mien(tmp_path)
    mien.start()
    yield mien
    mien.kill()


def test_a_call_outlives_a_server_that_is_killed_and_started_again(server, client_factory, photo):
    client = client_factory(server.address)
    assert client.health() == {"status": "ok"}

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.extract, [photo] * 120, mode="data")
        eventually(server.is_at_work)
        server.kill()
        assert not call.done()
        server.start()

        answer = call.result()

    assert [(image["status"], len(image["faces"])) for image in answer["data"]] == [("success", 1)] * 120


def test_a_collection_outlives_a_server_that_is_killed_and_started_again(server, photo, photos):
    paths = sorted(photos.glob("*.jpg")) * 24
    with IFRClient(server.address) as client:
        boxes = {path: client.extract([path], mode="data")["data"][0]["faces"][0]["bbox"] for path in set(paths)}
        results = client.extract_many(paths, mode="data", batch_size=16)
        found = [next(results)]
        eventually(server.is_at_work)
        server.kill()
        server.start()
        found.extend(results)

    assert [result["faces"][0]["bbox"] for result in found] == [boxes[path] for path in paths]


def test_a_collection_goes_on_where_a_server_that_stayed_away_stopped_it(server, photos):
    paths = sorted(photos.glob("*.jpg")) * 20
    with IFRClient(server.address) as client:
        client.health()
        found = []
        results = client.extract_many(
            paths, mode="data", batch_size=2, timeout=2, progress=lambda done, total: done == 20 and server.kill()
        )
        with pytest.raises(IFRConnectionError) as caught:
            found.extend(results)
        stopped = caught.value.stopped
        assert len(found) == stopped.index < len(paths)

        server.start()
        found.extend(client.extract_many(paths, mode="data", start=stopped))

    assert [(result["status"], len(result["faces"])) for result in found] == [("success", 1)] * len(paths)
