"""Where requests enter threads: a bounded pool whose queued work ends with its scope."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mien.engine.cancellation import CancelScope

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """Threads for synchronous work. FIFO; work whose scope is over by its turn is not started."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mien-work")

    async def run(self, scope: CancelScope, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(*args, **kwargs)` in a thread. Cancelling the awaiting task cancels the scope, never the thread.

        Raises what `work` raises, and DeadlineExceeded or Cancelled if its turn comes too late.
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
        """Wait for the threads' running work and end them; work that was not started is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
