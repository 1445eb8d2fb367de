"""Pulling models with progress bars on stderr; without them if stderr is not a terminal."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TransferSpeedColumn

from mien.cli.output import err
from mien.settings import Settings
from mien.zoo.selection import required_models
from mien.zoo.zoo import Zoo


class RichProgress:
    """Implements `mien.zoo.progress.Progress`; draws between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._current: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, label: str, total: int | None) -> None:
        self._current = self._bars.add_task(label, total=total)

    def advance(self, amount: int) -> None:
        if self._current is not None:
            self._bars.advance(self._current, amount)

    def done(self) -> None:
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None


def pull_needed(settings: Settings, also: Iterable[str] = ()) -> None:
    """Pull missing models: those required for a start, and `also`. Raises ModelError, which says what to do."""
    with RichProgress() as progress:
        Zoo.from_settings(settings).ensure_all([*required_models(settings.models), *also], progress=progress)
