"""How `/v1/nodes` and the watch show this server and other nodes."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

import pytest

from mien import __version__
from mien.engine.cancellation import CancelScope
from mien.http.lumen.nodes import local_node, remote_node, watched_node
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.capability import capability_of, to_message
from mien.nodes.node import Cooldown, Node, State, Stats


class Faces:
    """A service with two models, whose first task has an alias and uses both."""

    name = "face"

    def tasks(self) -> Sequence[TaskInfo]:
        kinds = ("image/jpeg",), ("application/json",)
        return [
            TaskInfo("face_embed", *kinds, "", ("embed",), {"max": "1"}),
            TaskInfo("face_detect", *kinds, "yunet"),
            TaskInfo("face_crop_embed", *kinds, "sface"),
        ]

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        yield InferResult(is_final=True)


def node(state: State = State.READY, **fields: object) -> Node:
    known = Node(
        "box@10.0.0.1:50051", "10.0.0.1:50051", "mdns", Cooldown(1, 2), {"v": "0.9", "runtime": "cpu"}, state=state
    )
    for name, value in fields.items():
        setattr(known, name, value)
    return known


def test_this_server_shows_each_model_and_alias() -> None:
    shown = local_node([Faces()], 7)
    assert [model["id"] for model in shown["models"]] == ["yunet", "sface"]
    assert shown["tasks"] == ["face_embed", "face_detect", "face_crop_embed"]
    (capability,) = shown["capabilities"]
    assert "extra" not in capability
    assert (capability["service_name"], capability["runtime"], capability["precisions"]) == (
        "face",
        "onnxruntime",
        ["fp32"],
    )
    assert capability["model_ids"] == ["yunet", "sface"]
    assert capability["max_concurrency"] == 7
    assert capability["tasks"][0] == {
        "name": "face_embed",
        "aliases": ["embed"],
        "input_mimes": ["image/jpeg"],
        "output_mimes": ["application/json"],
        "limits": {"max": "1"},
    }


def test_another_mien_node_shows_what_it_sent_without_names_for_streams() -> None:
    message = to_message(capability_of(Faces(), 3), 1000)
    shown = remote_node(node(capabilities=(message,)))
    assert (shown["status"], shown["availability"], shown["compatibility"]) == ("active", "ready", "compatible")
    assert (shown["version"], shown["runtime"]) == (__version__, "onnxruntime")
    assert shown["tasks"] == ["face_embed", "embed", "face_detect", "face_crop_embed"]
    (capability,) = shown["capabilities"]
    assert capability["extra"] == {"mien": __version__}
    assert capability["model_ids"] == ["yunet", "sface"]
    assert capability["tasks"][0] == {
        "name": "face_embed",
        "input_mimes": ["image/jpeg"],
        "output_mimes": ["application/json"],
        "limits": {"max_payload_size": "1000", "max": "1"},
    }


def test_a_node_is_shown_with_its_figures() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shown = remote_node(node(outstanding=2, last_seen=moment, stats=Stats(3, 2, 1, 0.25, moment)))
    assert (shown["id"], shown["name"], shown["address"]) == ("box@10.0.0.1:50051", "box", "10.0.0.1:50051")
    assert (shown["sources"], shown["outstanding"], shown["last_seen"]) == (["mdns"], 2, "2026-01-02T03:04:05Z")
    assert shown["stats"] == {
        "total_requests": 3,
        "successful_requests": 2,
        "failed_requests": 1,
        "average_latency": 250_000_000,
        "last_request": "2026-01-02T03:04:05Z",
    }


@pytest.mark.parametrize(
    ("state", "status", "availability", "compatibility", "incompatible_reason"),
    [
        (State.DISCOVERED, "starting", "discovered", "pending", ""),
        (State.UNAVAILABLE, "error", "unavailable", "pending", ""),
        (State.INCOMPATIBLE, "error", "unavailable", "incompatible", "speaks 2.0"),
    ],
)
def test_a_node_without_capabilities_is_shown_by_its_state(
    state: State, status: str, availability: str, compatibility: str, incompatible_reason: str
) -> None:
    shown = remote_node(node(state, reason="speaks 2.0"))
    assert (shown["status"], shown["availability"]) == (status, availability)
    assert (shown["compatibility"], shown["incompatible_reason"]) == (compatibility, incompatible_reason)
    assert (shown["version"], shown["runtime"], shown["models"]) == ("0.9", "cpu", [])


def test_the_watch_has_little_of_a_node() -> None:
    assert watched_node(node()) == {
        "node_id": "box@10.0.0.1:50051",
        "address": "10.0.0.1:50051",
        "txt": {"v": "0.9", "runtime": "cpu"},
    }
