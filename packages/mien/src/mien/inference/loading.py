"""Loading models, each with the plan for this machine; image models with their labels, text models with tokenizers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from mien.engine.models import LoadedModels, Model
from mien.engine.plan import Plan, choose_plan, thread_budget
from mien.engine.session import Feed
from mien.engine.tune import recall, record_path
from mien.errors import ModelError
from mien.inference.classification import read_labels
from mien.inference.image_model import ImageModel
from mien.inference.text_model import STEP, TextModel, WordPieces, feed
from mien.settings import Execution, Models
from mien.vision.imagenet import SIDE
from mien.zoo.manifest import Family, Manifest
from mien.zoo.on_demand import OnDemand
from mien.zoo.selection import IMAGE_LABELS, image_models, text_models, tokenizer_of
from mien.zoo.zoo import Zoo

TEXT_SHAPE = (3, 2 * STEP)  # a typical sentence: text models are warmed up and tuned with it


@dataclass(frozen=True)
class ModelLoader:
    """Loads models according to their manifests, the settings, and the tuning on this machine."""

    execution: Execution
    cache_dir: Path
    models: LoadedModels
    zoo: Zoo

    def load(
        self,
        name: str,
        path: Path,
        shape: tuple[int, ...],
        *,
        stage: int,
        alias: str | None = None,
        dtype: DTypeLike = np.float32,
        feed: Feed | None = None,
    ) -> Model:
        """Load a model. `shape`: of one item; use the shape that the model is tuned with."""
        return self.models.load(
            alias or name,
            path,
            self._plan(path),
            warm_up=shape,
            stage=stage,
            output_names=self.zoo.manifest(name).outputs,
            dtype=dtype,
            feed=feed,
        )

    def require(self, name: str, family: Family, setting: str) -> Manifest:
        """The manifest of `name`. Raises ModelError naming the setting if it belongs to another family."""
        manifest = self.zoo.manifest(name)
        if manifest.family != family:
            raise ModelError(f"{setting}: {name} is of the family {manifest.family}; this needs one of {family}")
        return manifest

    def _plan(self, path: Path) -> Plan:
        record = record_path(self.cache_dir, path, self.execution.providers, thread_budget(self.execution))
        return choose_plan(self.execution, recall(record))


def load_image_model(models: Models, loader: ModelLoader) -> OnDemand[ImageModel] | None:
    """The image model and its labels; None if turned off. Raises ModelError for a model of another family."""
    if not models.image_model:
        return None
    manifest = loader.require(models.image_model, "imagenet", "MIEN_IMAGE_MODEL")
    if manifest.input is None:
        raise ModelError(f"{manifest.name}: an image model's manifest needs an [input]")
    name, spec, shape = manifest.name, manifest.input, input_shape(manifest, SIDE)

    def build(paths: Mapping[str, Path]) -> ImageModel:
        return ImageModel(name, spec, loader.load(name, paths[name], shape, stage=3), read_labels(paths[IMAGE_LABELS]))

    return OnDemand("this task on images", image_models(models), loader.zoo, build)


def load_text_model(models: Models, loader: ModelLoader) -> OnDemand[TextModel] | None:
    """The text model and its tokenizer; None if turned off. Raises ModelError for a model of another family."""
    if not models.text_model:
        return None
    name = loader.require(models.text_model, "minilm", "MIEN_TEXT_MODEL").name

    def build(paths: Mapping[str, Path]) -> TextModel:
        pieces = WordPieces(paths[tokenizer_of(name)])
        return TextModel(name, pieces, loader.load(name, paths[name], TEXT_SHAPE, stage=3, dtype=np.int64, feed=feed))

    return OnDemand("this task on texts", text_models(models), loader.zoo, build)


def input_shape(manifest: Manifest, default: int) -> tuple[int, int, int]:
    """The shape of one item; `default`: side in pixels if the manifest fixes none."""
    spec = manifest.input
    height, width = (spec.height or default, spec.width or default) if spec else (default, default)
    channels = 1 if spec and spec.channels == "gray" else 3
    return (height, width, channels) if spec and spec.layout == "nhwc" else (channels, height, width)
