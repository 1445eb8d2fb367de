"""Frames to states of a task."""

import pytest

from inferencesh import TaskStatus
from inferencesh._frames import Frame
from inferencesh._merge import Merger, changed, joined


def frame(value, id_=None):
    return Frame(value, id_, hash(str(value)))


def test_parts_are_merged_and_earlier_states_stay():
    merger = Merger()
    first = merger.add(frame({"id": "t", "status": 7, "output": None}))
    second = merger.add(frame({"data": {"output": 1}, "fields": ["output", "error"]}))

    assert first == {"id": "t", "status": 7, "output": None}
    assert second == {"id": "t", "status": 7, "output": 1, "error": None}


def test_updates_without_news_are_dropped():
    merger = Merger({"id": "t", "status": 1})

    assert merger.add(frame({"id": "t", "status": 1})) is None
    assert merger.add(frame({"status": 2}, "1"))
    assert merger.add(frame({"status": 2, "new_logs": []}, "1")) is None
    assert merger.add(frame({"event": "delta", "data": {}})) is None


def test_a_stream_that_is_replayed_repeats_nothing():
    merger = Merger()
    frames = [frame({"status": 7, "output": number % 2}, str(number)) for number in range(10)]

    assert all(merger.add(one) for one in frames)
    assert [merger.add(one) for one in frames] == [None] * 10
    assert merger.last_id == "9"


def test_the_end_is_never_dropped():
    merger = Merger()
    merger.add(frame({"id": "t", "status": 7}, "1"))

    assert merger.add(frame({"id": "t", "status": 9}, "1"))["status"] == 9


def test_logs_add_up():
    one, two, three = ({"id": number, "content": str(number)} for number in (1, 2, 3))

    assert joined([one, two], [two, three]) == [one, two, three]
    assert joined(["a"], ["a", "b"]) == ["a", "b"]
    assert joined(None, [one]) == [one]
    assert joined([one], []) == []


def test_numbers_of_newer_servers_become_ours():
    merger = Merger()
    task = merger.add(
        frame(
            {"id": "t", "status": 10, "status_name": "completed", "events": [{"status": 9, "status_name": "uploading"}]}
        )
    )

    assert task["status"] == TaskStatus.COMPLETED
    assert task["events"][0]["status"] == TaskStatus.UPLOADING


@pytest.mark.parametrize(("value", "expected"), [({"data": {"a": 1}}, {"data": {"a": 1}}), ({"x": 1}, {"x": 1})])
def test_other_maps_are_tasks(value, expected):
    assert changed(value) == expected
