"""`BaseApp`: the base class of apps."""

import logging
from functools import cached_property
from typing import Any, ClassVar

from infsh._context import current_run


class BaseApp:
    """An app: `setup` once, `run` for each request, `unload` at the end; all but `run` are optional.

    A plain class: subclasses may have attributes and an `__init__` of their own. `run` and any other public method
    with an annotated input is callable, as a coroutine, an async generator of partial outputs, a function or a
    generator; the last two run in a thread. See docs/apps.md.
    """

    concurrency: ClassVar[int] = 1
    """Maximum number of concurrent runs."""

    lazy_files: ClassVar[bool] = False
    """True: input files are downloaded when the app accesses them, not before its function is called."""

    def setup(self, *args: Any, **kwargs: Any) -> Any:
        """Called once, before any run; may take the setup parameters, the metadata, or both in this order."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Called for each request: `run(self, app_input)` or `(self, app_input, metadata)`."""
        raise NotImplementedError("run method must be implemented")

    def unload(self) -> Any:
        """Called once, before the app's process ends."""

    def on_cancel(self) -> Any:
        """Called when a run is cancelled; the run then has half of its grace period to finish."""

    @cached_property
    def logger(self) -> logging.Logger:
        """A logger whose records, from INFO up, become lines of the task's log."""
        return logging.getLogger(f"infsh.app.{type(self).__name__}")

    def progress(self, fraction: float, message: str = "") -> None:
        """Reports the progress of the current run, 0 to 1. Does nothing outside of a run."""
        run = current_run()
        if run is not None:
            run.progress(min(1.0, max(0.0, float(fraction))), str(message))
