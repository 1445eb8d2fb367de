"""`mien infer`, `mien nodes` and `mien status` against a real server."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

Mien = Callable[..., CompletedProcess[str]]


@pytest.fixture
def asked(mien: Mien, server: Any, here: Path) -> Callable[..., str]:
    """Runs a command against the server; returns what it printed."""

    def run(*arguments: str) -> str:
        done = mien(*arguments, "--url", server.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_infer_as_a_table(asked: Callable[..., str]) -> None:
    printed = asked("infer", "--service", "face_detection", "image.jpg")
    assert "face_count=1" in printed
    assert "confidence" in printed


def test_infer_as_json(asked: Callable[..., str]) -> None:
    data = json.loads(
        asked("infer", "--service", "face_recognition", "image.jpg", "large_image.jpg", "--output", "json")
    )
    assert [one["count"] for one in data["result_json"]] == [1, 6]
    assert len(data["result_json"][0]["faces"][0]["embedding"]) == 512


def test_infer_as_yaml(asked: Callable[..., str]) -> None:
    data = yaml.safe_load(
        asked("infer", "--service", "classification", "image.jpg", "--meta", "top_k=2", "--output", "yaml")
    )
    assert len(data["result_json"]["labels"]) == 2


def test_infer_text(asked: Callable[..., str]) -> None:
    data = json.loads(asked("infer", "--service", "embedding", "--text", "a cat", "--output", "json"))
    assert len(data["result_json"]["vector"]) == data["result_json"]["dim"]


def test_infer_stream(asked: Callable[..., str]) -> None:
    printed = asked(
        "infer", "--service", "face_detection", "image.jpg", "large_image.jpg", "--stream", "--output", "json"
    )
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["is_final"] for event in events] == [False, False, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer", "--service", "nope", "image.jpg"], "(not_found): no service is called 'nope'; there are: "),
        (["infer", "--service", "nope", "--stream", "image.jpg"], "(not_found): no service is called 'nope'"),
        (["infer", "--service", "face_detection", "gone.jpg"], "(bad_request): gone.jpg: No such file or directory"),
        (["infer", "--service", "face_detection"], "(bad_request): nothing to send"),
        (["infer", "--service", "face_detection", "--meta", "x", "image.jpg"], "expected KEY=VALUE"),
        (["infer", "--service", "face_detection", "--meta", "max_faces=x", "image.jpg"], "(invalid_field): metadata"),
        (["nodes", "info", "nope"], "(not_found): there is no node 'nope'; known nodes: local"),
    ],
)
def test_errors_are_one_sentence(mien: Mien, server: Any, here: Path, arguments: list[str], words: str) -> None:
    done = mien(*arguments, "--url", server.url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["status"], ["nodes", "watch"], ["infer", "--service", "x", "--text", "y"]])
def test_no_server(mien: Mien, command: list[str]) -> None:
    done = mien(*command, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot connect to http://127.0.0.1:9" in done.stderr


def test_nodes(asked: Callable[..., str]) -> None:
    assert "local" in asked("nodes", "list")
    assert [node["id"] for node in json.loads(asked("nodes", "list", "--output", "json"))] == ["local"]
    assert "face_detect" in asked("nodes", "info", "local")
    assert asked("nodes", "ping", "local").startswith("local: active (")
    assert json.loads(asked("nodes", "watch", "--count", "1", "--output", "json")) == []


def test_status(asked: Callable[..., str]) -> None:
    assert "healthy" in asked("status")
    assert yaml.safe_load(asked("status", "--output", "yaml"))["health"]["status"] == "healthy"
