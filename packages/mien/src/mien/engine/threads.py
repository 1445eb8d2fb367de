"""A bounded thread pool whose queued work ends with its cancellation scope."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mien.engine.cancellation import CancelScope

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """Threads for synchronous work, FIFO. Work whose scope is over when its turn comes is not started."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mien-work")

    async def run(self, scope: CancelScope, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(*args, **kwargs)` in a thread. Cancelling the awaiting task cancels the scope, not the thread.

        Raises what `work` raises, and DeadlineExceeded or Cancelled if the scope is over before `work` starts.
        """

        def guarded() -> T:
            scope.check()
            return work(*args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, guarded)
        except asyncio.CancelledError:
            scope.cancel()
            raise

    def close(self) -> None:
        """Drop queued work, wait for running work and end the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)
