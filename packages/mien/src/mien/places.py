"""Directories and files that settings name: what cannot be used is said before the server starts."""

import os
from collections.abc import Iterator

from mien.errors import InvalidSettings
from mien.settings import Provenance, Settings


def place_problems(settings: Settings, provenance: Provenance) -> list[str]:
    """A sentence for each place that the server could not use. Creates nothing."""
    return [f"{provenance.label(name)}: {words}" for name, words in _unusable(settings)]


def require_places(settings: Settings, provenance: Provenance) -> None:
    """Raise InvalidSettings if the server could not use one of the places."""
    if problems := place_problems(settings, provenance):
        raise InvalidSettings(*problems)


def _unusable(settings: Settings) -> Iterator[tuple[str, str]]:
    locations = settings.locations
    read = {
        "images_root": [locations.images_root],
        "manifests_dir": [locations.manifests_dir],
        "app_input_dirs": settings.workers.app_input_dirs,
        "app_output_dirs": settings.workers.app_output_dirs,
    }
    for name, folder in [(name, folder) for name, folders in read.items() for folder in folders if folder is not None]:
        if not folder.is_dir():
            yield name, f"there is no directory {folder}"
        elif not os.access(folder, os.R_OK | os.X_OK):
            yield name, f"the directory {folder} cannot be read by this user"
    constraints = settings.apps.app_constraints
    if constraints is not None and not constraints.is_file():
        yield "app_constraints", f"there is no file {constraints}"
    elif constraints is not None and not os.access(constraints, os.R_OK):
        yield "app_constraints", f"the file {constraints} cannot be read by this user"
    for name, folder in (("data_dir", locations.data_dir), ("cache_dir", locations.cache_dir)):
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            yield name, f"{folder} cannot be created: {there} is not a directory"
        # A cache that was filled beforehand may be read-only.
        elif not os.access(there, os.W_OK | os.X_OK) and not (name == "cache_dir" and there == folder):
            yield name, f"the directory {there} cannot be written by this user"
