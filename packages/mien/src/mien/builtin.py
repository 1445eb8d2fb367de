"""The built-in models, the engine that runs them, and the services on top."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mien.engine.admission import Admission
from mien.engine.engine import Engine, Handlers
from mien.engine.models import LoadedModels
from mien.engine.plan import thread_budget
from mien.engine.sources import SourceReader
from mien.engine.thread_engine import ThreadEngine
from mien.engine.threads import ThreadPool
from mien.errors import BodyTooLarge, ImageTooLarge, MienError
from mien.faces.face_v1 import FaceV1Service
from mien.faces.loading import load_pipeline
from mien.faces.pipeline import FacePipeline
from mien.faces.recognisers import chosen_recogniser, same_threshold_of
from mien.faces.service import DrawFaces, FaceDrawer, FaceFinder, FaceService, FindFaces
from mien.inference.classification import ClassificationService, Classifier, Classify
from mien.inference.contract import Service
from mien.inference.embedding import Embed, Embedder, EmbeddingModels, EmbeddingService
from mien.inference.images import ImageLimits
from mien.inference.loading import ModelLoader, load_clip, load_image_model, load_text_model
from mien.inference.model_manager import FixedModels, ModelManager, Purpose
from mien.inference.ocr import LineFinder, OcrService, ReadLines
from mien.inference.operation_runner import OperationRunner
from mien.inference.registry import ServiceRegistry
from mien.inference.slots import Slot
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from mien.settings import Fetching, Models, Settings
from mien.vision.text_lines import LineReader, RapidOcr, is_installed
from mien.zoo.manifest import Manifest
from mien.zoo.on_demand import OnDemand
from mien.zoo.selection import required_models
from mien.zoo.zoo import Zoo

OCR_READERS = 4  # at most: each has a copy of its models


@dataclass(frozen=True)
class BuiltinModels:
    """The models of the built-in services. `reader`: None if there is none."""

    pipeline: FacePipeline
    detector: str
    """The detector's name in results."""
    recogniser: str
    """The recogniser's name in results."""
    embedding: EmbeddingModels
    reader: LineReader | None


def builtin_handlers(models: BuiltinModels, limits: ImageLimits) -> Handlers:
    """Handlers for the operations that the models support."""
    return {
        FindFaces: FaceFinder(models.pipeline, limits),
        DrawFaces: FaceDrawer(models.pipeline, limits),
        Embed: Embedder(models.embedding, limits),
        Classify: Classifier(models.embedding.image, models.embedding.clip, limits),
        **({} if models.reader is None else {ReadLines: LineFinder(models.reader, limits)}),
    }


def builtin_services(
    engine: Engine, metrics: Metrics, models: BuiltinModels, limits: ImageLimits, *, threshold: float, strict: bool
) -> list[Service]:
    """The services that the models support, as they are loaded at the moment.

    `threshold`: the default detection threshold. `strict`: reject unknown metadata keys.
    """
    runner = OperationRunner(engine, metrics)

    def faces(model: str, *, embedding: bool) -> FaceV1Service:
        return FaceV1Service(
            runner,
            metrics,
            limits,
            model=model,
            recognisers=models.pipeline.recognisers.manifests,
            embedding=embedding,
            threshold=threshold,
            strict=strict,
        )

    services: list[Service] = [faces(models.detector, embedding=False), faces(models.recogniser, embedding=True)]
    embedding = models.embedding
    if embedding.any:
        services.append(EmbeddingService(runner, limits, embedding, strict=strict))
    if embedding.image.active or embedding.clip.active:
        services.append(ClassificationService(runner, limits, embedding.image, embedding.clip, strict=strict))
    if models.reader is not None:
        services.append(OcrService(runner, limits, models.reader.name, strict=strict))
    return services


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What responses say about the loaded face models."""

    recogniser: Manifest
    recognisers: Mapping[str, Manifest]
    """That, and those that requests may choose instead, by name."""
    recognition_batch: int
    """Largest batch of one model run."""
    detection_batch: int

    def same_threshold(self, recogniser: str | None) -> float:
        """Cosine from which two faces count as the same person, by the recogniser that a request chose, if it did.

        Raises ModelError where its manifest has none, InvalidField for one that cannot be chosen.
        """
        return same_threshold_of(chosen_recogniser(recogniser, self.recognisers))


@dataclass(frozen=True, slots=True)
class Inference:
    """Loaded models, their threads, and the services on top."""

    models: LoadedModels
    threads: ThreadPool
    """Work on images and texts."""
    admission: Admission
    faces: FaceService
    builtin: BuiltinModels
    services: Callable[[], Sequence[Service]]
    """The built-in ones, with the models that are loaded at the moment."""
    manager: ModelManager
    facts: ModelFacts

    async def close(self) -> None:
        """Reject new work, finish running work and end all threads."""
        self.admission.drain()
        await asyncio.to_thread(self._close_threads)

    def _close_threads(self) -> None:
        self.threads.close()
        self.models.close()


def open_fetcher(settings: Settings) -> Fetcher:
    """Fetches the images that requests and tasks name by URL."""
    return _fetcher(settings.fetching, settings.limits.max_image_bytes, ImageTooLarge)


def open_file_fetcher(settings: Settings) -> Fetcher:
    """Fetches the files that inputs of apps name by URL. On its own, so that long downloads delay no images."""
    return _fetcher(settings.fetching, settings.files.file_max_bytes, BodyTooLarge)


def _fetcher(fetching: Fetching, max_bytes: int, too_large: type[MienError]) -> Fetcher:
    return Fetcher(
        allow_private=fetching.fetch_private,
        timeout=fetching.fetch_timeout,
        tries=fetching.fetch_tries,
        concurrency=fetching.fetch_concurrency,
        max_bytes=max_bytes,
        too_large=too_large,
        headers=fetching.fetch_headers,
    )


def load_inference(settings: Settings, metrics: Metrics, fetcher: Fetcher, admission: Admission) -> Inference:
    """Load and warm up the face models, and every other configured model that is in the cache. Blocks for seconds.

    Raises ModelError.
    """
    zoo = Zoo.from_settings(settings)
    paths = zoo.ensure_all(required_models(settings.models))
    loaded = LoadedModels(
        threads=thread_budget(settings.execution),
        providers=settings.execution.providers,
        batch_wait=settings.execution.batch_wait_ms / 1e3,
        observer=metrics,
    )
    loader = ModelLoader(settings.execution, settings.locations.cache_dir, loaded, zoo)
    pipeline = load_pipeline(settings.models, settings.limits.max_faces, loader, paths)
    embedding = _embedding_models(settings.models, loader)
    threads = settings.execution.workers or loaded.image_threads()
    limits = ImageLimits.from_settings(settings.limits)
    builtin = BuiltinModels(
        pipeline=pipeline,
        detector=settings.models.detector,
        recogniser=settings.models.recogniser,
        embedding=embedding,
        reader=RapidOcr(min(loaded.threads, OCR_READERS)) if is_installed() else None,
    )
    pool = ThreadPool(threads)
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
    services = partial(
        builtin_services,
        engine,
        metrics,
        builtin,
        limits,
        threshold=settings.api.default_threshold,
        strict=settings.api.strict_metadata,
    )
    faces = FaceService(engine, metrics)
    metrics.queued_items.set_function(loaded.queued)
    metrics.queued_images.set_function(lambda: admission.images)
    facts = ModelFacts(
        zoo.manifest(settings.models.recogniser),
        pipeline.recognisers.manifests,
        recognition_batch=loaded[settings.models.recogniser].plan.max_batch,
        detection_batch=loaded[settings.models.detector].plan.max_batch,
    )
    manager = ModelManager(loader, embedding, _fixed_models(settings.models, pipeline))
    return Inference(loaded, pool, admission, faces, builtin, services, manager, facts)


def _embedding_models(models: Models, loader: ModelLoader) -> EmbeddingModels:
    image, text, clip = models.image_model, models.text_model, models.clip_model
    return EmbeddingModels(
        Slot(load_image_model(image, loader) if image else None),
        Slot(load_text_model(text, loader) if text else None),
        Slot(load_clip(clip, loader) if clip else None),
    )


def _fixed_models(models: Models, pipeline: FacePipeline) -> FixedModels:
    required: dict[str, Purpose] = {models.detector: "face_detection", models.recogniser: "face_recognition"}
    groups: list[tuple[Purpose, OnDemand[Any]]] = [
        *(("face_recognition", other) for other in pipeline.recognisers.others.values()),
        ("age_gender", pipeline.age_gender),
        ("mask", pipeline.masks),
        ("pose", pipeline.pose),
        ("landmarks_68", pipeline.landmarks_68),
    ]
    return FixedModels(required, groups)


class OfferedServices:
    """Keeps the registry in step with the models that are loaded."""

    def __init__(self, registry: ServiceRegistry, services: Callable[[], Sequence[Service]]) -> None:
        self._registry = registry
        self._services = services
        self._offered: set[str] = set()

    def refresh(self) -> None:
        """Add the services that there are now, and remove those that there were. On the event loop."""
        services = self._services()
        for name in self._offered - {service.name for service in services}:
            self._registry.remove(name)
        for service in services:
            self._registry.add(service)
        self._offered = {service.name for service in services}
