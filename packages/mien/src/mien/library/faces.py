"""Faces in images, in this process: the server's pipeline without the server."""

import hashlib
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels
from mien.engine.plan import thread_budget
from mien.engine.sources import Item
from mien.errors import ImageError, InternalError, InvalidField, MienError, Unavailable
from mien.faces.loading import load_pipeline
from mien.faces.pipeline import PIPELINE_VERSION, Face, FaceAnalysis, FaceOptions
from mien.faces.recognisers import chosen_recogniser, same_threshold_of
from mien.faces.service import FaceFinder, FindFaces
from mien.inference.images import ImageLimits
from mien.inference.loading import ModelLoader
from mien.library.given import AnyImage, Channels, read_given
from mien.library.options import Options, options_of
from mien.library.search import FolderImage, Listener, Progress, search
from mien.library.walk import ImageFile, Skipped, walk
from mien.logs import log_to_standard_library
from mien.settings import Settings
from mien.vision.recognition import cosine_similarity, normalise
from mien.zoo.selection import required_models
from mien.zoo.zoo import Zoo

Comparable: TypeAlias = Face | AnyImage | NDArray[np.floating]
"""A face that was found, its vector, or an image, of which the largest face counts."""

RESULT_SETTINGS = (
    *("detection_size", "rotate", "refine"),
    *("age_model", "gender_model", "mask_model", "pose_model", "landmark_model"),
)
"""Those on which results depend, beside the detector and the recogniser."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two faces belong to one person."""

    similarity: float
    """Cosine of the two vectors, -1..1."""
    same: bool
    """`similarity` is at least the threshold."""
    threshold: float


class Faces:
    """Finds, describes and compares faces. Thread-safe; its methods block, and run in the threads that call them.

    All errors are MienError. Close it, or use it in a `with` statement, to free its models.
    """

    def __init__(self, settings: Settings | None = None, **given: Any) -> None:
        """Load the detector and the recogniser; other models are loaded, and pulled, when they are first needed.

        `given`: settings by name, as in docs/operations.md without `MIEN_` (`detector="centerface"`, `threads=2`).
        They take precedence over MIEN_* variables. OpenCV is set to one thread, as images are processed in parallel.
        Raises InvalidSettings, ModelError.
        """
        log_to_standard_library()
        self._settings = settings or Settings(**given)
        models, execution = self._settings.models, self._settings.execution
        zoo = Zoo.from_settings(self._settings)
        paths = zoo.ensure_all(required_models(models))
        self._models = LoadedModels(threads=thread_budget(execution), providers=execution.providers)
        loader = ModelLoader(execution, self._settings.locations.cache_dir, self._models, zoo)
        self._pipeline = load_pipeline(models, self._settings.limits.max_faces, loader, paths)
        self._limits = ImageLimits.from_settings(self._settings.limits)
        self._finder = FaceFinder(self._pipeline, self._limits)
        self._threads = execution.workers or self._models.image_threads()
        self._detector = zoo.manifest(models.detector)
        self._recogniser = zoo.manifest(models.recogniser)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish running work and free the models. What is called afterwards raises Unavailable."""
        if not self._closed:
            self._closed = True
            self._models.close()

    @property
    def same_threshold(self) -> float:
        """Cosine from which two faces count as one person, by the recogniser's manifest. Raises ModelError."""
        return same_threshold_of(self._recogniser)

    def find(self, image: AnyImage, *, channels: Channels = "bgr", **options: Unpack[Options]) -> list[Face]:
        """The image's faces, best score first (largest first if `limit` cuts them).

        `channels`: the order of a numpy array's colours; other images know theirs. Raises ImageError, InvalidField,
        ModelUnavailable.
        """
        return list(self._analyse(image, channels, self._options(options), CancelScope()).faces)

    def compare(
        self,
        first: Comparable,
        second: Comparable,
        *,
        threshold: float | None = None,
        channels: Channels = "bgr",
        recogniser: str | None = None,
    ) -> Comparison:
        """Whether both show one person, by `threshold` or the recogniser's `same_threshold`.

        `recogniser`: who embeds images, and has embedded faces and vectors, if it is not the default.
        Raises ImageError if an image shows no face, InvalidField for vectors that cannot be compared, ModelError.
        """
        manifest = chosen_recogniser(recogniser, self._pipeline.recognisers.manifests)
        limit = same_threshold_of(manifest) if threshold is None else threshold
        a, b = (self._vector(side, channels, recogniser) for side in (first, second))
        if a.shape != b.shape:
            raise InvalidField(f"vectors of {a.size} and {b.size} numbers: made by different models?")
        similarity = float(cosine_similarity(a[np.newaxis], b[np.newaxis])[0, 0])
        return Comparison(similarity, similarity >= limit, limit)

    def folder(
        self,
        *paths: str | os.PathLike[str],
        wanted: Callable[[ImageFile], bool] | None = None,
        skipped: Callable[[Skipped], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        **options: Unpack[Options],
    ) -> Generator[FolderImage]:
        """All images at and below `paths`, in the order of their names, as they are done: faces, or an error.

        Several are processed at once, a few ahead of the one that is taken; memory does not grow with their number.
        `wanted`: only files for which it returns True. `skipped`: called with entries that are no images. `progress`:
        called after each. All in the thread that iterates. Raises InvalidField, ModelUnavailable; an image's own error
        is in its result.
        """
        chosen = self._options(options)
        self._require_open()
        self._pipeline.wait_for_models(chosen)

        def analyse(path: Path, scope: CancelScope) -> FaceAnalysis:
            return self._analyse(path, "bgr", chosen, scope)

        given = {"wanted": wanted, "skipped": skipped, "progress": progress}
        listener = Listener(**{name: call for name, call in given.items() if call is not None})  # type: ignore[arg-type]
        return search(walk(Path(path) for path in paths), analyse, self._threads, listener)

    def made_by(self, **options: Unpack[Options]) -> str:
        """The models' names, and 12 digits that differ where results may.

        They do for another version of the pipeline, other files of the models, settings or options.
        """
        chosen, models = self._options(options), self._settings.models
        parts = [
            f"pipeline {PIPELINE_VERSION}",
            *(f"{m.name} {m.source.sha256} {m.convert_revision}" for m in (self._detector, self._recogniser)),
            *(f"{name}={getattr(models, name)}" for name in RESULT_SETTINGS),
            *(f"{item.name}={getattr(chosen, item.name)}" for item in fields(chosen) if item.name != "crops"),
        ]
        digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()
        return f"{self._detector.name}+{self._recogniser.name} {digest}"

    def _options(self, given: Options) -> FaceOptions:
        return options_of(given, self._settings.api.default_threshold)

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("these Faces are closed")

    def _analyse(self, image: AnyImage, channels: Channels, options: FaceOptions, scope: CancelScope) -> FaceAnalysis:
        self._require_open()
        try:
            self._pipeline.wait_for_models(options)
            given = read_given(image, channels, self._limits)
            if isinstance(given, Item):
                return self._finder.work(given, FindFaces(options), scope, None).analysis
            return self._pipeline.analyse(given, options, scope)
        except MienError:
            raise
        except Exception as error:
            raise InternalError(f"the image could not be processed: {type(error).__name__}: {error}") from error

    def _vector(self, given: Comparable, channels: Channels, recogniser: str | None) -> NDArray[np.float32]:
        if isinstance(given, np.ndarray) and given.ndim == 1:
            return _unit(given)
        if isinstance(given, Face):
            found: list[Face] = [given]
        else:
            found = self.find(given, channels=channels, limit=1, recogniser=recogniser)  # type: ignore[arg-type]
        if not found:
            raise ImageError("no face was found in an image to compare")
        if found[0].vector is None:
            raise InvalidField("this face has no vector to compare; find it with embedding=True")
        return found[0].vector


def _unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """The vector in its length of 1, in which vectors are compared."""
    try:
        unit, _ = normalise(vector.astype(np.float32)[np.newaxis])
    except (ValueError, TypeError):
        raise InvalidField("a vector to compare is an array of finite numbers") from None
    return unit.reshape(-1)
