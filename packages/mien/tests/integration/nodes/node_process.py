"""A node with small services, run by the tests in a process of its own: `node_process.py PORT LOG NAME`.

What happens to its requests goes to LOG, one word a line: `began`, `cancelled` with the seconds it took, `ended`.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from mien.engine.cancellation import CancelScope
from mien.errors import ImageError, NotFound, Overloaded, Unavailable
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.server import NodeServer

FAILURES = {
    "invalid": ImageError("these are no pixels"), "missing": NotFound("no such thing"), "bug": ZeroDivisionError("x"),
    "busy": Overloaded("too much", retry_after=7), "away": Unavailable("loading"),
}  # fmt: skip


class Echo:
    """Gives the payload back, with what was asked in the meta."""

    def __init__(self, log: Path, node: str) -> None:
        self.log, self.node, self.name = log, node, "echo"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("echo_v1", ("*/*",), ("*/*",), "none", aliases=("old_echo",))]

    async def infer(
        self, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        data = b"".join(item.data for item in request.items)
        meta = {
            **request.metadata, "node": self.node, "task": request.task, "mime": request.items[0].mime,
            "items": str(len(request.items)), "correlation": request.correlation_id, "stream": str(stream),
            "patience": f"{call.remaining():.1f}",
        }  # fmt: skip
        yield InferResult(
            data * int(request.metadata.get("times", "1")),
            "application/json;schema=echo_v1",
            "echo_v1",
            meta,
            is_final=True,
            total=1,
        )


class Steps:
    """Sends `steps` messages, `pause` seconds apart; `silent` seconds before all of them."""

    def __init__(self, log: Path, node: str) -> None:
        self.log, self.node, self.name = log, node, "steps"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("steps_v1", ("text/plain",), ("text/plain",), "none")]

    def note(self, word: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{word} {time.time()}\n")

    async def infer(
        self, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        call.subscribe(lambda: self.note("told"))
        count = int(request.metadata.get("steps", "3"))
        ended = False
        self.note("began")
        try:
            await asyncio.sleep(float(request.metadata.get("silent", "0")))
            for step in range(count):
                final = step == count - 1
                ended = final
                yield InferResult(
                    f"step {step} {time.time()}".encode(),
                    "text/plain",
                    "",
                    {"node": self.node},
                    is_final=final,
                    seq=step,
                )
                await asyncio.sleep(float(request.metadata.get("pause", "0.05")))
        finally:
            self.note("ended" if ended else "cancelled" if call.over() else "closed")


class Failing:
    """Raises what the request asks for, before or after a first message."""

    def __init__(self, log: Path, node: str) -> None:
        self.log, self.node, self.name = log, node, "failing"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("fail_v1", ("text/plain",), ("text/plain",), "none")]

    async def infer(
        self, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        if request.metadata.get("late"):
            yield InferResult(b"so far so good", "text/plain")
        if request.metadata["kind"] == "endless":
            await asyncio.sleep(60)
        if request.metadata["kind"] == "nothing":
            return
        raise FAILURES[request.metadata["kind"]]
        yield


async def main(port: int, log: Path, name: str) -> None:
    services = [Echo(log, name), Steps(log, name), Failing(log, name)]
    server = NodeServer(lambda: services, max_requests=8, max_waiting=4, idle=2.0, max_bytes=16 * 1024 * 1024)
    bound = await server.start("127.0.0.1", port)
    await server.set_ready()
    sys.stdout.write(f"ready {bound}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(kind, stop.set)
    await stop.wait()
    await server.stop(5.0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
