"""Announcing in one process and browsing in another, by mDNS on the loopback interface."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mien.nodes.discovery import TASKS_BYTES, Announcement, Discovery, own_address
from mien.nodes.node import State
from testing.waiting import eventually_async

SCRIPT = Path(__file__).with_name("announcing_process.py")


@pytest.fixture
def announcing(node: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that announces the node until it reads a second line."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(node.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert next(line for line in process.stdout if line == "announced\n")
        yield process
        process.kill()


async def test_a_node_is_found_used_and_forgotten_when_it_says_goodbye(
    node: Any, announcing: "subprocess.Popen[str]", pool: Any, ask: Any
) -> None:
    async with pool() as nodes, Discovery(interfaces=["127.0.0.1"], scan=0.5) as discovery:
        discovery.browse(nodes)
        await eventually_async(lambda: any(known.state is State.READY for known in nodes.nodes))
        (found,) = nodes.nodes
        assert found.address == node.address
        assert found.id.startswith("mien-")
        assert found.id.endswith(f"@127.0.0.1:{node.port}")
        assert found.source == "mdns"
        assert set(found.txt) == {"uuid", "status", "version", "tasks", "v", "runtime", "proto"}
        assert found.txt["tasks"] == "echo_v1,steps_v1"
        (result,) = await ask(nodes, "echo", b"found")
        assert result.data == b"found"
        assert announcing.stdin is not None
        announcing.stdin.write("fewer\n")
        announcing.stdin.flush()
        await eventually_async(lambda: found.txt["tasks"] == "echo_v1")
        await asyncio.to_thread(announcing.communicate, "\n")
        await eventually_async(lambda: not nodes.nodes)


def test_only_as_many_tasks_are_announced_as_fit() -> None:
    info = Announcement(1, [f"task_number_{i}" for i in range(100)], "none", "127.0.0.1").info("0" * 36)
    tasks = info.decoded_properties["tasks"]
    assert tasks is not None
    assert TASKS_BYTES - 20 < len(tasks) <= TASKS_BYTES


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")])
def test_the_announced_address_is_the_one_listened_on(host: str, address: str) -> None:
    assert own_address(host) == address
    assert own_address("0.0.0.0").count(".") == 3  # noqa: S104
