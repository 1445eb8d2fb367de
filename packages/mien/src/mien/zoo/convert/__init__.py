"""Turning published weights into ONNX files that run well here: one module per recipe.

`onnx` and `h5py` are needed in this package only, while models are acquired; nothing that serves imports it.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from mien.errors import ManifestInvalid, ModelCorrupt, ModelUnavailable

RECIPES = ("centerface", "efficientnet_lite0", "fr_feature", "fr_landmark", "fr_pose", "keras_mask", "sface", "yunet")


def require_recipe(recipe: str) -> ModuleType:
    """The module of `recipe`. Asked for before a download, which would be for nothing without it.

    Raises ManifestInvalid for a recipe that does not exist, ModelUnavailable when a library is missing.
    """
    if recipe not in RECIPES:
        raise ManifestInvalid(f"there is no conversion {recipe!r}; there are: {', '.join(RECIPES)}")
    try:
        return import_module(f"{__name__}.{recipe}")
    except ModuleNotFoundError as error:
        if error.name not in {"onnx", "h5py"}:
            raise
        raise ModelUnavailable(
            f"converting this model needs the package {error.name}: run `pip install 'mien[convert]'`"
        ) from error


def convert(recipe: str, source: Path, target: Path) -> None:
    """Writes what `recipe` makes of `source` to `target`: the same bytes each time (with the same libraries).

    Raises as `require_recipe` does, and ModelCorrupt when the source is not what the recipe knows.
    """
    module = require_recipe(recipe)
    try:
        converted = module.convert(source)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelCorrupt(f"the conversion {recipe!r} does not know this file: it misses {error}") from error
    target.write_bytes(converted)
