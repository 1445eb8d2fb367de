"""A server that cannot start says why, in one sentence that names the setting."""

from collections.abc import Callable
from typing import Any

import pytest


def test_a_port_in_use_is_one_sentence(mien: Callable[..., Any], server: Any) -> None:
    result = mien("serve", "--port", str(server.port))
    assert result.returncode == 1
    assert f"port {server.port}" in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if "error" in line]) == 1


@pytest.mark.parametrize("setting", ["detector", "recogniser", "mask_model"])
def test_an_unknown_model_is_one_sentence(mien: Callable[..., Any], setting: str) -> None:
    result = mien("serve", "--port", "0", **{setting: "no_such_model"})
    assert result.returncode == 1
    assert "no_such_model" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"port": "99999999"}, "MIEN_PORT"),
        ({"threads": "none"}, "MIEN_THREADS"),
        ({"detection_size": "1"}, "MIEN_DETECTION_SIZE"),
        ({"fetch_headers": "not json"}, "fetch_headers"),
        ({"providers": "tpu"}, "tpu"),
        ({"log_level": "loud"}, "MIEN_LOG_LEVEL"),
    ],
)
def test_a_wrong_setting_is_named(mien: Callable[..., Any], settings: dict[str, str], named: str) -> None:
    result = mien("serve", **({} if "port" in settings else {"port": 0}), **settings)
    assert result.returncode == 1
    assert named.lower() in result.stderr.lower()
    assert "Traceback" not in result.stderr
