"""The one place where the event loop's work enters threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mien.engine.call import Call

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """Threads for synchronous work on images. FIFO; work whose call is over by its turn is not started."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mien-work")

    async def run(self, call: Call, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(*args, **kwargs)` in a thread. Cancelling the awaiting task cancels the call, never the thread.

        Raises what `work` raises, and DeadlineExceeded or Cancelled if its turn comes too late.
        """

        def guarded() -> T:
            call.check()
            return work(*args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, guarded)
        except asyncio.CancelledError:
            call.cancel()
            raise

    def close(self) -> None:
        """Wait for the threads' running work and end them; work that was not started is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
