"""`Metadata`: the context in which an app runs."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from infsh._context import ActiveRun, current_run


class Metadata(BaseModel):
    """Ids of the app, the worker and the task; further attributes may be set."""

    model_config = ConfigDict(extra="allow", validate_assignment=False)

    app_id: str | None = None
    app_version_id: str | None = None
    app_variant: str | None = None
    worker_id: str | None = None
    task_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    gpu_ids: list[int] | list[str] | None = None

    _run: ActiveRun | None = PrivateAttr(default=None)

    def update(self, values: "dict[str, Any] | BaseModel") -> None:
        """Sets each value as an attribute; for a model, the fields that were set."""
        given = values.model_dump(exclude_unset=True) if isinstance(values, BaseModel) else values
        for key, value in given.items():
            if not key.startswith("_") and not hasattr(type(self), key):
                setattr(self, key, value)

    def log(self, message: object, *args: object) -> None:
        """Adds a line to the task's log; `args` are formatted as in `logging`."""
        text = str(message) % args if args else str(message)
        run = self._run or current_run()
        if run is not None:
            run.log(text)

    @property
    def cancelled(self) -> bool:
        """Whether this run has been cancelled. Check it in long loops."""
        run = self._run or current_run()
        return run is not None and run.cancelled.is_set()

    def attached(self, run: ActiveRun) -> Self:
        """Itself, bound to this run."""
        self._run = run
        return self
