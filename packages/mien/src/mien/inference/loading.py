"""Loading models, each with the plan for this machine; image models with their labels, text models with tokenizers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels, Model
from mien.engine.plan import Plan, choose_plan, thread_budget
from mien.engine.session import Feed
from mien.engine.tune import recall, record_path
from mien.errors import MienError, ModelError, ModelUnknown
from mien.inference.classification import read_labels
from mien.inference.clip import ClipModel
from mien.inference.image_model import ImageModel
from mien.inference.text_model import TextModel, WordPieces, feed
from mien.inference.tokens import STEP, ClipTokens, clip_feed
from mien.settings import Execution
from mien.vision.clip import SIDE as CLIP_SIDE
from mien.vision.imagenet import SIDE
from mien.zoo.manifest import Family, Manifest, TextInput
from mien.zoo.on_demand import OnDemand
from mien.zoo.selection import IMAGE_HALF, IMAGE_LABELS, halves_of, tokenizer_of
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
        only: bool = False,
    ) -> Model:
        """Load a model. `shape`: of one item; use the shape that the model is tuned with. `only`: compute the
        manifest's one output, whatever others the file has.
        """
        outputs = self.zoo.manifest(name).outputs
        return self.models.load(
            alias or name,
            path,
            self._plan(path),
            warm_up=shape,
            stage=stage,
            output_names=outputs,
            dtype=dtype,
            feed=feed,
            output=outputs[0] if only and outputs else None,
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


def load_image_model(name: str, loader: ModelLoader) -> OnDemand[ImageModel]:
    """An image model and its labels. Raises ModelError for a model of another family."""
    manifest = loader.require(name, "imagenet", "MIEN_IMAGE_MODEL")
    if manifest.input is None:
        raise ModelError(f"{manifest.name}: an image model's manifest needs an [input]")
    spec, shape = manifest.input, input_shape(manifest, SIDE)

    def build(paths: Mapping[str, Path]) -> ImageModel:
        return ImageModel(name, spec, loader.load(name, paths[name], shape, stage=3), read_labels(paths[IMAGE_LABELS]))

    return OnDemand("this task on images", [name, IMAGE_LABELS], loader.zoo, build)


def load_text_model(name: str, loader: ModelLoader) -> OnDemand[TextModel]:
    """A text model and its tokenizer. Raises ModelError for a model of another family."""
    loader.require(name, "minilm", "MIEN_TEXT_MODEL")

    def build(paths: Mapping[str, Path]) -> TextModel:
        pieces = WordPieces(paths[tokenizer_of(name)])
        return TextModel(name, pieces, loader.load(name, paths[name], TEXT_SHAPE, stage=3, dtype=np.int64, feed=feed))

    return OnDemand("this task on texts", [name, tokenizer_of(name)], loader.zoo, build)


def load_clip(name: str, loader: ModelLoader) -> OnDemand[ClipModel]:
    """A CLIP or SigLIP with its tokenizer. Raises ModelError if its manifests do not make one."""
    image_name, text_name, tokenizer_name = names = halves_of(name)
    if image_name not in loader.zoo.manifests:
        halves = [other for other, manifest in loader.zoo.manifests.items() if manifest.family == "clip_image"]
        known = ", ".join(half.removesuffix(IMAGE_HALF) for half in halves)
        raise ModelUnknown(f"MIEN_CLIP_MODEL: no CLIP is called {name!r}; there are: {known}")
    image = loader.require(image_name, "clip_image", "MIEN_CLIP_MODEL")
    text = loader.require(text_name, "clip_text", "MIEN_CLIP_MODEL")
    spec, text_spec, similarity = image.input, text.text, image.similarity
    if spec is None or similarity is None:
        raise ModelError(f"{image_name}: the manifest of a clip_image model needs an [input] and a [similarity]")
    if text_spec is None:
        raise ModelError(f"{text_name}: the manifest of a clip_text model needs a [text]")

    def build(paths: Mapping[str, Path]) -> ClipModel:
        tokens = ClipTokens(paths[tokenizer_name], text_spec)
        shape = clip_text_shape(text_spec)
        model = ClipModel(
            name,
            loader.load(image_name, paths[image_name], input_shape(image, CLIP_SIDE), stage=3, only=True),
            spec,
            loader.load(text_name, paths[text_name], shape, stage=3, dtype=np.int64, feed=clip_feed, only=True),
            tokens,
            similarity,
        )
        _smoke_test(model)
        return model

    return OnDemand("this task with CLIP", names, loader.zoo, build, name=name)


def clip_text_shape(spec: TextInput) -> tuple[int, int]:
    """The shape of one item of a CLIP's text half: that of a short label."""
    return 2, spec.tokens if spec.always_full else min(spec.tokens, STEP)


def _smoke_test(clip: ClipModel) -> None:
    """An image and a text through both halves: that they do not belong together is found now, not by a user."""
    scope = CancelScope()
    try:
        image = clip.embed_image(np.full((64, 48, 3), 128, np.uint8), scope)
        text = clip.embed_text("a photo", scope).vector
    except MienError:
        raise
    except Exception as error:
        raise ModelError(f"{clip.name} does not behave as its manifests say: {error}") from error
    if image.ndim != 1 or image.shape != text.shape:
        raise ModelError(
            f"{clip.name}: images become {image.shape} numbers and texts {text.shape}; both must be the same vector"
        )


def input_shape(manifest: Manifest, default: int) -> tuple[int, int, int]:
    """The shape of one item; `default`: side in pixels if the manifest fixes none."""
    spec = manifest.input
    height, width = (spec.height or default, spec.width or default) if spec else (default, default)
    channels = 1 if spec and spec.channels == "gray" else 3
    return (height, width, channels) if spec and spec.layout == "nhwc" else (channels, height, width)
