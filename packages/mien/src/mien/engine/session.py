"""One ONNX Runtime session: arrays in, named arrays out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mien.engine.plan import provider_names
from mien.errors import ModelError

Feed: TypeAlias = Callable[[NDArray[Any]], dict[str, NDArray[Any]]]
"""Splits a batch into a model's inputs by name, for models with several."""

ort.set_default_logger_severity(3)  # errors only: warnings about unused initializers are noise to users


class Session:
    """A loaded model with its own threads. `run` is thread-safe."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        providers: tuple[str, ...] = ("cpu",),
        feed: Feed | None = None,
        output: str | None = None,
    ) -> None:
        """`feed`: None for a model with one input; inputs that the model does not have are left out. `output`: the
        only one to compute; None: all. Raises ModelError if ONNX Runtime cannot load the file.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A lane that spins while it waits takes its core away from the other lanes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        names = provider_names(providers, ort.get_available_providers())
        try:
            self._session = ort.InferenceSession(str(path), options, providers=names)
        except Exception as error:
            raise ModelError(f"{path.name}: ONNX Runtime cannot load this file: {error}") from error
        self._feed = feed
        inputs = self._session.get_inputs()
        self.input_names = tuple(node.name for node in inputs)
        self.input_shapes = tuple(tuple(node.shape) for node in inputs)
        self.output_names = tuple(node.name for node in self._session.get_outputs())
        if output is not None:
            if output not in self.output_names:
                raise ModelError(f"{path.name}: has no output {output}; it has {', '.join(self.output_names)}")
            self.output_names = (output,)
        self._wanted = None if output is None else [output]

    @property
    def batchable(self) -> bool:
        """Whether the first input's first axis, the batch axis, is dynamic."""
        return not isinstance(self.input_shapes[0][0], int)

    def run(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """The model's outputs for `batch`, in the model's order."""
        if self._feed is None:
            inputs = {self.input_names[0]: batch}
        else:
            inputs = {name: values for name, values in self._feed(batch).items() if name in self.input_names}
        return tuple(self._session.run(self._wanted, inputs))
