"""Loaded models by name, each on its lanes, all under one thread budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from mien.engine.batcher import Batcher, Lanes, ModelInput, Observer
from mien.engine.cancellation import CancelScope
from mien.engine.plan import Plan
from mien.engine.session import Feed, Session
from mien.errors import ModelError


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Model:
    """A loaded model. `run` blocks: never call it on the event loop."""

    name: str
    plan: Plan
    output_names: tuple[str, ...]
    _lanes: Lanes
    _batcher: Batcher

    def run(self, items: Sequence[ModelInput], scope: CancelScope) -> list[dict[str, NDArray[np.float32]]]:
        """The outputs of each item by name; items and outputs have no batch axis. Raises what Batcher.run raises."""
        return [
            dict(zip(self.output_names, outputs, strict=True))
            for outputs in self._batcher.run(self._lanes, items, scope)
        ]


class LoadedModels:
    """Loads models and runs them in shared batches."""

    def __init__(
        self,
        *,
        threads: int,
        providers: tuple[str, ...] = ("cpu",),
        batch_wait: float = 0.0,
        observer: Observer | None = None,
    ) -> None:
        """`threads`: the budget shared by all models. `batch_wait`: the coalescing window in seconds."""
        # OpenCV's own threads would compete with the lanes; its calls are short, and images are processed in parallel.
        cv2.setNumThreads(1)
        self.threads = threads
        self.providers = providers
        self._batcher = Batcher(threads, window=batch_wait, observer=observer)
        # Weak: a model is unloaded, and its memory freed, when the last one that uses it lets go of it. So nothing runs
        # a model that is closed, whenever it is unloaded.
        self._by_name: WeakValueDictionary[str, Model] = WeakValueDictionary()

    def load(
        self,
        name: str,
        path: Path,
        plan: Plan,
        *,
        warm_up: tuple[int, ...],
        stage: int = 0,
        output_names: tuple[str, ...] = (),
        dtype: DTypeLike = np.float32,
        feed: Feed | None = None,
        output: str | None = None,
    ) -> Model:
        """Load `path`, run each session once on zeros of shape `warm_up` (one item) and register it as `name`.

        `stage` orders models that wait for the same threads: later stages go first. `feed` splits a batch for a model
        with several inputs; `dtype` is that of an item; `output`: the only one to compute. The model is registered for
        as long as the caller keeps it. Raises ModelError.
        """
        # A single-threaded run happens in the caller's thread, so one session serves all lanes with one copy of the
        # weights.
        count = 1 if plan.lane_threads == 1 else plan.lanes
        sessions = [
            Session(path, threads=plan.lane_threads, providers=self.providers, feed=feed, output=output)
            for _ in range(count)
        ]
        try:
            for session in sessions:
                outputs = session.run(np.zeros((1, *warm_up), dtype))
        except Exception as error:
            shape = " x ".join(str(side) for side in warm_up)
            reason = " ".join(str(error).split())
            raise ModelError(f"{name}: the file does not run on an input of {shape}: {reason}") from error
        stacked = sessions[0].batchable and all(len(output) == 1 for output in outputs)
        runners = [session.run for session in sessions] * (plan.lanes // count)
        lanes = Lanes(name, runners, threads=plan.lane_threads, max_batch=plan.max_batch, stage=stage, stacked=stacked)
        names = output_names or sessions[0].output_names
        model = Model(name, plan, names, lanes, self._batcher)
        self._by_name[name] = model
        return model

    def __getitem__(self, name: str) -> Model:
        return self._by_name[name]

    def names(self) -> list[str]:
        """The names of the loaded models, in alphabetical order."""
        return sorted(self._by_name)

    def largest_batch(self) -> int:
        """The largest batch size of any loaded model."""
        return max(model.plan.max_batch for model in self._by_name.values())

    def image_threads(self) -> int:
        """How many threads should prepare images: one per thread of the budget, which keeps a CPU busy without context
        switches; where batching pays off, enough more to fill two batches."""
        largest = self.largest_batch()
        return self.threads if largest == 1 else self.threads + 2 * largest

    def queued(self) -> int:
        """Number of items waiting for a lane."""
        return self._batcher.depth()

    def close(self) -> None:
        """Finish running work and end the threads."""
        self._batcher.close()
