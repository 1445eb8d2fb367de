"""Pulls the models that a server needs before it starts, with progress on the terminal."""

from collections.abc import Iterable

from mien.cli.progress import RichProgress
from mien.settings import Settings
from mien.zoo.selection import required_models
from mien.zoo.zoo import Zoo


def pull_needed(settings: Settings, also: Iterable[str] = ()) -> None:
    """Pull missing models: those required for a start, and `also`. Raises ModelError, which says what to do."""
    with RichProgress() as progress:
        Zoo.from_settings(settings).ensure_all([*required_models(settings.models), *also], progress=progress)
