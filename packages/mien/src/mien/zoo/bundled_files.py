"""Converted files that are part of the package: the default face models, so that a first start downloads nothing."""

from importlib import resources
from pathlib import Path

from mien.errors import ModelCorrupt
from mien.zoo.manifest import Manifest
from mien.zoo.records import sha256_of


def bundled_file(manifest: Manifest) -> Path | None:
    """The file of a model that comes with Mien, its hash checked; None for any other model. Raises ModelCorrupt."""
    if manifest.bundled is None:
        return None
    with resources.as_file(resources.files("mien.zoo") / "bundled" / f"{manifest.name}.onnx") as path:
        if not path.is_file():
            return None
        if sha256_of(path) != manifest.bundled:
            raise ModelCorrupt(
                f"the model {manifest.name} that comes with Mien is damaged: install Mien again, "
                f"or run `mien models pull {manifest.name} --force`"
            )
        return path
