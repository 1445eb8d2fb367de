"""The models of a server: which it needs, how they are loaded and warmed, and the built-in services on top of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from mien.builtin_services import BuiltinModels, builtin_handlers, builtin_services
from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels, Model
from mien.engine.plan import Plan, choose_plan, thread_budget
from mien.engine.session import Feed
from mien.engine.sources import SourceReader
from mien.engine.thread_engine import ThreadEngine
from mien.engine.threads import ThreadPool
from mien.engine.tune import recall, record_path
from mien.errors import MienError, ModelError
from mien.faces.pipeline import FaceOptions, FacePipeline, Trait
from mien.faces.service import FaceService
from mien.inference.classification import read_labels
from mien.inference.contract import Service
from mien.inference.image_model import ImageModel
from mien.inference.images import ImageLimits
from mien.inference.text_model import STEP, TextModel, WordPieces, feed
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from mien.settings import Models, Settings
from mien.vision.align import ARCFACE_SIZE, ARCFACE_TEMPLATE
from mien.vision.attributes import AttributeReader, build_attribute_reader
from mien.vision.detectors import build_detector
from mien.vision.imagenet import SIDE
from mien.vision.refine import CROP_SIDE
from mien.vision.text_lines import RapidOcr, is_installed
from mien.zoo.manifest import Family, Manifest
from mien.zoo.on_demand import OnDemand
from mien.zoo.zoo import Zoo

TEXT_SHAPE = (3, 2 * STEP)  # a usual sentence: what models of texts are warmed and measured with
OCR_READERS = 4  # at most: each has a copy of its models
IMAGE_LABELS = "imagenet_labels"
TRY_OUT_SIDE = 64
PORTRAIT = (4, 5)  # the width : height that detectors are warmed with


def required_models(models: Models) -> list[str]:
    """Names of the models without which a server with these settings does not start."""
    return list(dict.fromkeys([models.detector, models.recogniser]))


def optional_models(models: Models) -> list[str]:
    """Names of the models that are loaded at the start where they are here, and else when first wanted."""
    groups = (age_gender_models, mask_models, image_models, text_models)
    return list(dict.fromkeys(name for group in groups for name in group(models)))


def age_gender_models(models: Models) -> list[str]:
    """What `extract_ga` needs."""
    return [name for name in dict.fromkeys((models.age_model, models.gender_model)) if name]


def mask_models(models: Models) -> list[str]:
    """What `detect_masks` needs."""
    return [models.mask_model] if models.mask_model else []


def image_models(models: Models) -> list[str]:
    """What images are embedded and classified with, the model first."""
    return [models.image_model, IMAGE_LABELS] if models.image_model else []


def text_models(models: Models) -> list[str]:
    """What texts are embedded with, the model first."""
    return [models.text_model, tokenizer_of(models.text_model)] if models.text_model else []


def tokenizer_of(text_model: str) -> str:
    """The name of the manifest of a text model's tokenizer."""
    return f"{text_model}_tokenizer"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What responses say about the loaded face models."""

    recogniser: Manifest
    recognition_batch: int
    """Largest batch of one model run."""
    detection_batch: int

    @property
    def same_threshold(self) -> float:
        """Cosine from which two faces count as the same person. Raises ModelError where the manifest has none."""
        threshold = self.recogniser.same_threshold
        if threshold is None:
            raise ModelError(f"{self.recogniser.name}: its manifest has no same_threshold to compare with")
        return threshold


@dataclass(frozen=True, slots=True)
class Inference:
    """Loaded models, the threads that work for them, and the services on top."""

    models: LoadedModels
    threads: ThreadPool
    """For images."""
    parsers: ThreadPool
    """Threads for large bodies, apart from the images' so that neither waits for the other."""
    admission: Admission
    faces: FaceService
    builtin: BuiltinModels
    services: Sequence[Service]
    """The built-in ones."""
    facts: ModelFacts

    async def close(self) -> None:
        """Refuse new work, finish the running and end all threads."""
        self.admission.drain()
        await asyncio.to_thread(self._close_threads)

    def _close_threads(self) -> None:
        self.threads.close()
        self.parsers.close()
        self.models.close()


def open_fetcher(settings: Settings) -> Fetcher:
    """Reads the URLs that requests and tasks name."""
    fetching = settings.fetching
    return Fetcher(
        allow_private=fetching.fetch_private,
        timeout=fetching.fetch_timeout,
        tries=fetching.fetch_tries,
        concurrency=fetching.fetch_concurrency,
        max_bytes=settings.limits.max_image_bytes,
        headers=fetching.fetch_headers,
    )


def load_inference(settings: Settings, metrics: Metrics, fetcher: Fetcher) -> Inference:
    """Load and warm the face models and every other that is here; blocks as long as that takes. Raises ModelError."""
    zoo = Zoo.from_settings(settings)
    paths = zoo.ensure_all(required_models(settings.models))
    loaded = LoadedModels(
        threads=thread_budget(settings.execution),
        providers=settings.execution.providers,
        batch_wait=settings.execution.batch_wait_ms / 1e3,
        observer=metrics,
    )
    loader = _Loader(settings, loaded, zoo)
    pipeline = _face_pipeline(settings.models, settings.limits.max_faces, loader, paths)
    image, text = _image_model(settings.models, loader), _text_model(settings.models, loader)
    threads = settings.execution.workers or _image_threads(loaded)
    limits = ImageLimits(
        max_items=settings.limits.max_images,
        max_bytes=settings.limits.max_image_bytes,
        max_pixels=settings.limits.max_pixels,
    )
    builtin = BuiltinModels(
        pipeline=pipeline,
        detector=settings.models.detector,
        recogniser=settings.models.recogniser,
        image=image,
        text=text,
        reader=RapidOcr(min(loaded.threads, OCR_READERS)) if is_installed() else None,
    )
    pool = ThreadPool(threads)
    admission = Admission(max_images=settings.limits.queue_images, max_bytes=settings.limits.queue_bytes)
    engine = ThreadEngine(
        builtin_handlers(builtin, limits),
        reader=SourceReader(
            fetcher, images_root=settings.locations.images_root, max_bytes=settings.limits.max_image_bytes
        ),
        threads=pool,
        admission=admission,
        metrics=metrics,
        parallel=threads,
        max_items=settings.limits.max_images,
    )
    services = builtin_services(
        engine, metrics, builtin, limits, threshold=settings.api.default_threshold, strict=settings.api.strict_metadata
    )
    faces = FaceService(engine, metrics)
    metrics.queued_items.set_function(loaded.queued)
    metrics.queued_images.set_function(lambda: admission.images)
    facts = ModelFacts(
        zoo.manifest(settings.models.recogniser),
        recognition_batch=loaded[settings.models.recogniser].plan.max_batch,
        detection_batch=loaded[settings.models.detector].plan.max_batch,
    )
    return Inference(loaded, pool, ThreadPool(2), admission, faces, builtin, services, facts)


def _image_threads(models: LoadedModels) -> int:
    """One per thread of the budget, which keeps a CPU busy without switching; where batches pay, enough to fill two."""
    largest = models.largest_batch()
    return models.threads if largest == 1 else models.threads + 2 * largest


@dataclass(frozen=True)
class _Loader:
    settings: Settings
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
        """Load a model; `shape` is that of one item, which its tuning was measured with, too."""
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
        """The manifest of `name`. Raises ModelError that names the setting where it is of another family."""
        manifest = self.zoo.manifest(name)
        if manifest.family != family:
            raise ModelError(f"{setting}: {name} is of the family {manifest.family}; this needs one of {family}")
        return manifest

    def _plan(self, path: Path) -> Plan:
        execution = self.settings.execution
        record = record_path(self.settings.locations.cache_dir, path, execution.providers, thread_budget(execution))
        return choose_plan(execution, recall(record))


def _face_pipeline(models: Models, max_faces: int, loader: _Loader, paths: Mapping[str, Path]) -> FacePipeline:
    detector_manifest = loader.zoo.manifest(models.detector)
    recogniser_manifest = loader.zoo.manifest(models.recogniser)
    detector_file, recogniser_file = paths[models.detector], paths[models.recogniser]
    detector = build_detector(detector_manifest)
    second_look = models.refine and detector_manifest.family == "yunet"
    pipeline = FacePipeline(
        detector=detector,
        nms=0.4 if detector_manifest.nms_threshold is None else detector_manifest.nms_threshold,
        detection=loader.load(models.detector, detector_file, detection_shape(models.detection_size), stage=0),
        refinement=loader.load(
            models.detector, detector_file, (3, CROP_SIDE, CROP_SIDE), stage=1, alias=f"{models.detector}-refine"
        )
        if second_look
        else None,
        age_gender=_traits(loader, "extract_ga", age_gender_models(models)),
        masks=_traits(loader, "detect_masks", mask_models(models)),
        recogniser=recogniser_manifest,
        recognition=loader.load(models.recogniser, recogniser_file, input_shape(recogniser_manifest, 112), stage=3),
        first_side=models.detection_size,
        max_faces=max_faces,
    )
    _try_out(pipeline, recogniser_manifest)
    return pipeline


def _try_out(pipeline: FacePipeline, recogniser: Manifest) -> None:
    """Black images through every stage: a file that is not what its manifest says is found now, not by a user."""
    options = FaceOptions(threshold=0.5)
    try:
        pipeline.analyse(np.zeros((TRY_OUT_SIDE, TRY_OUT_SIDE, 3), np.uint8), options, CancelScope())
        (face,) = pipeline.embed_crop(np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8), options, CancelScope()).faces
    except MienError:
        raise
    except Exception as error:
        raise ModelError(f"the face models do not answer as their manifests say: {error}") from error
    expected, got = recogniser.embedding_dim, 0 if face.vector is None else len(face.vector)
    if expected is not None and got != expected:
        raise ModelError(
            f"{recogniser.name}: the file answers with {got} numbers per face; "
            f"its manifest says embedding_dim = {expected}"
        )


def _traits(loader: _Loader, option: str, names: list[str]) -> OnDemand[Sequence[Trait]]:
    """The attribute models behind one option of requests."""
    # Built at once: a model of the wrong kind is the settings' mistake, and said at the start.
    readers = [build_attribute_reader(loader.zoo.manifest(name)) for name in names]

    def build(paths: Mapping[str, Path]) -> Sequence[Trait]:
        return [_trait(loader, reader, paths[reader.name]) for reader in readers]

    return OnDemand(option, names, loader.zoo, build)


def _trait(loader: _Loader, reader: AttributeReader, path: Path) -> Trait:
    shape = input_shape(loader.zoo.manifest(reader.name), 224)
    trait = Trait(reader, loader.load(reader.name, path, shape, stage=2))
    black = np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8)
    box = np.array([0, 0, ARCFACE_SIZE, ARCFACE_SIZE], np.float32)
    try:
        (output,) = trait.model.run([reader.prepare(reader.crop(black, box, ARCFACE_TEMPLATE))], CancelScope())
        reader.decode(output)
    except MienError:
        raise
    except Exception as error:
        raise ModelError(f"{reader.name} does not answer as its manifest says: {error}") from error
    return trait


def _image_model(models: Models, loader: _Loader) -> OnDemand[ImageModel] | None:
    if not models.image_model:
        return None
    manifest = loader.require(models.image_model, "imagenet", "MIEN_IMAGE_MODEL")
    if manifest.input is None:
        raise ModelError(f"{manifest.name}: an image model's manifest needs an [input]")
    name, spec, shape = manifest.name, manifest.input, input_shape(manifest, SIDE)

    def build(paths: Mapping[str, Path]) -> ImageModel:
        return ImageModel(name, spec, loader.load(name, paths[name], shape, stage=3), read_labels(paths[IMAGE_LABELS]))

    return OnDemand("this task on images", image_models(models), loader.zoo, build)


def _text_model(models: Models, loader: _Loader) -> OnDemand[TextModel] | None:
    if not models.text_model:
        return None
    name = loader.require(models.text_model, "minilm", "MIEN_TEXT_MODEL").name

    def build(paths: Mapping[str, Path]) -> TextModel:
        pieces = WordPieces(paths[tokenizer_of(name)])
        return TextModel(name, pieces, loader.load(name, paths[name], TEXT_SHAPE, stage=3, dtype=np.int64, feed=feed))

    return OnDemand("this task on texts", text_models(models), loader.zoo, build)


def detection_shape(side: int) -> tuple[int, int, int]:
    """One item of a portrait at the first size of the ladder."""
    width, height = PORTRAIT
    return (3, side + -side % 32, side * width // height + -(side * width // height) % 32)


def input_shape(manifest: Manifest, default: int) -> tuple[int, int, int]:
    """One item of a model with a fixed input size."""
    spec = manifest.input
    height, width = (spec.height or default, spec.width or default) if spec else (default, default)
    return (height, width, 3) if spec and spec.layout == "nhwc" else (3, height, width)
