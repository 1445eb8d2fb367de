"""Loading the face models into a pipeline that passed a smoke test; attribute models load on demand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mien.detection_size import DetectionSize
from mien.engine.cancellation import CancelScope
from mien.errors import MienError, ModelError
from mien.faces.head import LandmarkFinder, PoseEstimator
from mien.faces.pipeline import FaceOptions, FacePipeline, Trait
from mien.faces.recognisers import Recogniser, Recognisers, recogniser_of
from mien.inference.loading import ModelLoader, input_shape
from mien.settings import Models
from mien.vision.align import ARCFACE_SIZE, ARCFACE_TEMPLATE
from mien.vision.attributes import AttributeReader, build_attribute_reader
from mien.vision.detectors import build_detector
from mien.vision.detectors.scales import LEAST_SIDE, TILE
from mien.vision.landmarks_68 import build_landmarks_68
from mien.vision.pose import build_pose_reader
from mien.vision.refine import CROP_SIDE
from mien.vision.types import Detections, Image
from mien.zoo.manifest import Manifest
from mien.zoo.on_demand import OnDemand
from mien.zoo.selection import age_gender_models, mask_models, other_recognisers

SMOKE_TEST_SIDE = 64
PORTRAIT = (4, 5)  # width : height of the image that detectors are warmed up with


def load_pipeline(models: Models, max_faces: int, loader: ModelLoader, paths: Mapping[str, Path]) -> FacePipeline:
    """Load and smoke-test the face models. `paths`: the detector's and the recogniser's files. Raises ModelError."""
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
        pose=_pose(loader, models.pose_model),
        landmarks_68=_landmarks_68(loader, models.landmark_model),
        recognisers=Recognisers(
            _recogniser(loader, recogniser_manifest, recogniser_file),
            {name: _on_demand(loader, name) for name in other_recognisers(models)},
            {name: loader.zoo.manifest(name) for name in (models.recogniser, *other_recognisers(models))},
        ),
        detection_size=models.detection_size,
        rotate=models.rotate,
        max_faces=max_faces,
    )
    _smoke_test(pipeline, recogniser_manifest)
    return pipeline


def _smoke_test(pipeline: FacePipeline, recogniser: Manifest) -> None:
    """Run black images through every stage: a model that contradicts its manifest is found now, not by a user."""
    options = FaceOptions(threshold=0.5)
    try:
        pipeline.analyse(np.zeros((SMOKE_TEST_SIDE, SMOKE_TEST_SIDE, 3), np.uint8), options, CancelScope())
        (face,) = pipeline.embed_crop(np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8), options, CancelScope()).faces
    except MienError:
        raise
    except Exception as error:
        raise ModelError(f"the face models do not behave as their manifests say: {error}") from error
    _require_dimensions(recogniser, 0 if face.vector is None else len(face.vector))


def _recogniser(loader: ModelLoader, manifest: Manifest, path: Path) -> Recogniser:
    return recogniser_of(manifest, loader.load(manifest.name, path, input_shape(manifest, 112), stage=3))


def _on_demand(loader: ModelLoader, name: str) -> OnDemand[Recogniser]:
    """A recogniser that requests may choose. Raises ModelError for a model that is none."""
    manifest = loader.require(name, "arcface", "MIEN_RECOGNISERS")

    def build(paths: Mapping[str, Path]) -> Recogniser:
        recogniser = _recogniser(loader, manifest, paths[name])
        try:
            vectors, _ = recogniser.embed([np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8)], CancelScope())
        except MienError:
            raise
        except Exception as error:
            raise ModelError(f"{name} does not behave as its manifest says: {error}") from error
        _require_dimensions(manifest, vectors.shape[1])
        return recogniser

    return OnDemand(f"the recogniser {name}", (name,), loader.zoo, build)


def _require_dimensions(recogniser: Manifest, got: int) -> None:
    expected = recogniser.embedding_dim
    if expected is not None and got != expected:
        raise ModelError(
            f"{recogniser.name}: the model returns {got} numbers per face; its manifest says embedding_dim = {expected}"
        )


def _traits(loader: ModelLoader, option: str, names: list[str]) -> OnDemand[Sequence[Trait]]:
    """The attribute models behind one option of requests."""
    # Built eagerly: a model of the wrong family is a mistake in the settings and must be reported at startup.
    readers = [build_attribute_reader(loader.zoo.manifest(name)) for name in names]

    def build(paths: Mapping[str, Path]) -> Sequence[Trait]:
        return [_trait(loader, reader, paths[reader.name]) for reader in readers]

    return OnDemand(option, names, loader.zoo, build)


def _pose(loader: ModelLoader, name: str | None) -> OnDemand[PoseEstimator | None]:
    """The model behind `return_pose`; None if it is turned off."""
    if name is None:
        return OnDemand[PoseEstimator | None]("return_pose", (), loader.zoo, lambda _: None)
    reader, shape = build_pose_reader(loader.zoo.manifest(name)), input_shape(loader.zoo.manifest(name), 224)

    def build(paths: Mapping[str, Path]) -> PoseEstimator:
        estimator = PoseEstimator(reader, loader.load(name, paths[name], shape, stage=2))
        _try_on_black(name, estimator.poses)
        return estimator

    return OnDemand[PoseEstimator | None]("return_pose", (name,), loader.zoo, build)


def _landmarks_68(loader: ModelLoader, name: str | None) -> OnDemand[LandmarkFinder | None]:
    """The model behind `return_landmarks_68`; None if it is turned off."""
    if name is None:
        return OnDemand[LandmarkFinder | None]("return_landmarks_68", (), loader.zoo, lambda _: None)
    reader, shape = build_landmarks_68(loader.zoo.manifest(name)), input_shape(loader.zoo.manifest(name), 64)

    def build(paths: Mapping[str, Path]) -> LandmarkFinder:
        finder = LandmarkFinder(reader, loader.load(name, paths[name], shape, stage=2))
        _try_on_black(name, finder.landmarks)
        return finder

    return OnDemand[LandmarkFinder | None]("return_landmarks_68", (name,), loader.zoo, build)


def _try_on_black(name: str, run: Callable[[Image, Detections, CancelScope], object]) -> None:
    """Raises ModelError for a model that contradicts its manifest."""
    black = np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8)
    box = np.array([[0, 0, ARCFACE_SIZE, ARCFACE_SIZE]], np.float32)
    try:
        one = np.ones(1, np.float32)
        run(black, Detections(box, one, ARCFACE_TEMPLATE[np.newaxis], one), CancelScope())
    except MienError:
        raise
    except Exception as error:
        raise ModelError(f"{name} does not behave as its manifest says: {error}") from error


def _trait(loader: ModelLoader, reader: AttributeReader, path: Path) -> Trait:
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
        raise ModelError(f"{reader.name} does not behave as its manifest says: {error}") from error
    return trait


def detection_shape(size: DetectionSize) -> tuple[int, int, int]:
    """The shape of a portrait image's finest input."""
    width, height = PORTRAIT
    side = min(size, TILE) if isinstance(size, int) else LEAST_SIDE
    return (3, side + -side % 32, side * width // height + -(side * width // height) % 32)
