"""Having the models a server needs before it starts, with progress on the terminal."""

from mien.cli.progress import RichProgress
from mien.runtime import needed_models
from mien.settings import Settings
from mien.zoo.zoo import Zoo


def pull_needed(settings: Settings) -> None:
    """Acquire what is missing. Raises ModelError that says what to do."""
    with RichProgress() as progress:
        Zoo.from_settings(settings).ensure_all(needed_models(settings), progress=progress)
