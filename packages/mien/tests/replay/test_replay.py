"""The server as it is answers as the recorded one did: see record.py for when an answer is meant to change."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mien.app import create_app
from mien.settings import Settings

from . import storage
from .compare import differences
from .record import RECORDED, as_written, compared, play

SHOWN = 40
LEAST = 400


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    return storage.read(RECORDED)


@pytest.mark.limit(600)
def test_every_exchange_is_answered_as_recorded(recorded: list[dict[str, Any]], tmp_path: Path) -> None:
    found = compared(recorded, as_written(play(Path(sys.executable), tmp_path)))
    shown = "\n".join(found[:SHOWN])
    assert not found, f"{len(found)} differences; if they are meant, record again (CONTRIBUTING.md):\n{shown}"


def test_the_recording_has_every_exchange_once(recorded: list[dict[str, Any]]) -> None:
    names = Counter(answer["name"] for answer in recorded)
    assert len(names) >= LEAST
    assert max(names.values()) == 1


def test_every_documented_route_was_asked(recorded: list[dict[str, Any]], tmp_path: Path) -> None:
    asked = [answer["sent"].partition("?")[0] for answer in recorded if "status" in answer]
    openapi = create_app(Settings(data_dir=tmp_path)).openapi()
    routes = [f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods]
    assert [route for route in routes if not any(_pattern(route).fullmatch(sent) for sent in asked)] == []


def _pattern(route: str) -> re.Pattern[str]:
    """What was sent to a route such as `GET /tasks/{task_id}`."""
    return re.compile(re.sub(r"\\\{.*?\\\}", ".+", re.escape(route)))


ANSWER = {"status": 200, "body": {"json": {"faces": [{"prob": 0.9, "box": [1, 2]}], "error": None}}}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"status": 201, "body": ANSWER["body"]}, "status: recorded 200, now 201"),
        ({"status": 200}, "body: recorded"),
        ({**ANSWER, "more": 1}, "more: new, 1"),
        (
            {"status": 200, "body": {"json": {"faces": [{"prob": 0.9002, "box": [1, 2]}], "error": None}}},
            "faces[0].prob",
        ),
        (
            {"status": 200, "body": {"json": {"faces": [{"prob": 0.9, "box": [1, 3]}], "error": None}}},
            "faces[0].box[1]",
        ),
        ({"status": 200, "body": {"json": {"faces": [{"prob": 0.9, "box": [1.0, 2]}], "error": None}}}, "box[0]"),
        ({"status": 200, "body": {"json": {"faces": [], "error": None}}}, "recorded 1 items, now 0"),
        ({"status": 200, "body": {"json": {"error": None, "faces": [{"prob": 0.9, "box": [1, 2]}]}}}, "another order"),
    ],
)
def test_an_altered_answer_is_named(now: dict[str, Any], said: str) -> None:
    (found,) = compared([{"name": "extract/one", **ANSWER}], [{"name": "extract/one", **now}])
    assert found.startswith("extract/one: ")
    assert said in found


def test_floats_may_differ_by_little() -> None:
    assert list(differences({"x": 0.9, "y": 5000.0}, {"x": 0.90005, "y": 5000.3})) == []


def test_decimals_in_text_may_differ_by_one_in_the_last_place() -> None:
    line = "│ 1 │ Windsor tie │ 0.4923 │"
    assert list(differences(line, line.replace("4923", "4924"))) == []
    assert len(list(differences(line, line.replace("4923", "4933")))) == 1
    assert len(list(differences(line, line.replace("tie", "knot")))) == 1


def test_a_missing_and_a_new_exchange_are_named() -> None:
    assert compared([{"name": "a"}], [{"name": "b"}]) == ["a: recorded, not sent any more", "b: not recorded yet"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    answers = [
        {"name": "a", "body": {"items": [{"x": 1, "y": [{"z": 1}, {"z": 2}]}, {"x": 2, "y": []}], "one": [{"x": 1}]}}
    ]
    storage.write(tmp_path / "file", answers)
    assert storage.read(tmp_path / "file") == answers
