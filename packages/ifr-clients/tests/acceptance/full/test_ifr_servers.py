"""A client and servers with API keys, or not ready yet."""

import os
import re
import subprocess
import sys
import time

import pytest

from ifr_clients import IFRClient, IFRConnectionError, IFRRejected


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


def test_a_server_that_is_starting_is_waited_for(mien_factory, photo):
    with mien_factory(ready=False) as address, IFRClient(address, retries=20) as client:
        for _ in range(200):
            try:
                answer = client.extract([photo], mode="data")
            except IFRConnectionError:  # not listening yet
                time.sleep(0.05)
            else:
                break

    assert answer["data"][0]["status"] == "success"
