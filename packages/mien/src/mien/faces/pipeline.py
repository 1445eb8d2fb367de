"""The faces of one image: detect, select, refine, align, embed, describe. Blocks its thread."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from mien.detection_size import DetectionSize
from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.engine.plan import Plan
from mien.errors import ImageError
from mien.faces.detection import FaceDetection
from mien.faces.head import LandmarkFinder, PoseEstimator
from mien.faces.recognisers import Recognisers
from mien.faces.refinement import LandmarkRefinement
from mien.faces.views import in_view, views_of
from mien.vision.align import ARCFACE_SIZE, ARCFACE_TEMPLATE, align
from mien.vision.attributes import AttributeReader, Attributes
from mien.vision.detectors import Detector
from mien.vision.draw import encode_jpeg
from mien.vision.photo import Photo, View
from mien.vision.pose import Pose
from mien.vision.quality import quality_of
from mien.vision.types import EMPTY, Array, Detections, Image
from mien.vision.upright import roll_of
from mien.zoo.on_demand import OnDemand

PIPELINE_VERSION = 2
"""Raised when the embeddings of upright portraits change although the models do not. 1: landmarks of the best candidate
in an upright close-up, large faces aligned without shrinking them first."""


@dataclass(frozen=True, slots=True)
class FaceOptions:
    """Which faces to return, and what to compute for them."""

    threshold: float
    """Minimum detection score."""
    detection_size: DetectionSize | None = None
    """At which sizes to look at the image; None: the pipeline's default."""
    nms_threshold: float | None = None
    """Overlap (IoU) above which two boxes count as one face; None: from the detector's manifest."""
    embedding: bool = True
    recogniser: str | None = None
    """By whom to embed: a name of Recognisers; None: its default."""
    landmarks: bool = False
    crops: bool = False
    """Return the aligned crops as JPEG."""
    attributes: bool = False
    """Age and gender."""
    masks: bool = False
    quality: bool = False
    """How far each face's embedding can be trusted. Runs the recogniser, also without `embedding`."""
    pose: bool = False
    """Where each face looks."""
    landmarks_68: bool = False
    limit: int = 0
    """Maximum number of faces, largest first; 0: all."""
    min_size: float = 0
    """Minimum box width in pixels of the image."""
    max_size: float = 0
    """Maximum box width in pixels of the image; 0: no maximum."""
    rotate: Literal["auto", "off"] | None = None
    """`auto`: also faces that lie on their side or are upside down; None: the pipeline's default."""


REFINED = ("embedding", "crops", "landmarks", "attributes", "quality", "pose", "landmarks_68")
"""Options that need landmarks from a close-up."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face. Coordinates are pixels of the upright image."""

    index: int
    """Rank among the image's detections before the size filter."""
    box: Array
    """[4] x1, y1, x2, y2, not clipped."""
    score: float
    landmarks: Array
    """[5, 2], refined if one of REFINED was requested."""
    vector: Array | None = None
    """[D] float32, length 1."""
    norm: float | None = None
    """Length of the raw embedding."""
    crop: bytes | None = None
    """JPEG of the aligned 112×112 crop."""
    attributes: Attributes = field(default_factory=Attributes)
    """Age, gender and mask, if requested and if there is a model."""
    quality: float | None = None
    """0..1; see `mien.vision.quality`."""
    pose: Pose | None = None
    landmarks_68: Array | None = None
    """[68, 2], if requested and if there is a model."""
    scale: float = 1.0
    """Factor by which the image was scaled when the detector saw this face."""


@dataclass(frozen=True, slots=True)
class FaceAnalysis:
    """Everything about one image."""

    faces: tuple[Face, ...]
    width: int
    height: int
    embed_ms: float = 0.0
    """Milliseconds for everything after detection."""


@dataclass(frozen=True, slots=True)
class Trait:
    """An attribute model with the code that prepares its input and decodes its output."""

    reader: AttributeReader
    model: Model


class FacePipeline:
    """Detector, recogniser and attribute models combined. Stateless between images; thread-safe."""

    def __init__(
        self,
        *,
        detector: Detector,
        nms: float,
        detection: Model,
        recognisers: Recognisers,
        detection_size: DetectionSize,
        rotate: Literal["auto", "off"],
        max_faces: int,
        refinement: Model | None = None,
        age_gender: OnDemand[Sequence[Trait]],
        masks: OnDemand[Sequence[Trait]],
        pose: OnDemand[PoseEstimator | None],
        landmarks_68: OnDemand[LandmarkFinder | None],
    ) -> None:
        """`nms`: the detector's default overlap threshold (IoU). `detection_size`, `rotate`: if a request sets none.

        `refinement`: the model for the second landmark pass; None skips it.
        """
        self._detector = detector
        self._nms = nms
        self._detection = FaceDetection(detector, detection, nms=nms, max_faces=max_faces)
        self._detection_size = detection_size
        self._rotate = rotate
        self.recognisers = recognisers
        self._max_faces = max_faces
        self._refinement = None if refinement is None else LandmarkRefinement(detector, refinement, nms=nms)
        self.age_gender = age_gender
        self.masks = masks
        self.pose = pose
        self.landmarks_68 = landmarks_68

    def analyse(
        self,
        image: Photo | Image,
        options: FaceOptions,
        scope: CancelScope,
        report: Callable[[Face, int], None] | None = None,
    ) -> FaceAnalysis:
        """The image's faces, best first (largest first if the limit applies).

        `report` is called with each face, and the number of faces, as soon as the face is complete. Raises ModelError,
        DeadlineExceeded, Cancelled, and ImageTruncated for a photo whose data is damaged.
        """
        photo = Photo.of(image)
        found = self._detect(photo, options, scope)
        index, chosen = select(found, options)
        detected = time.perf_counter()
        faces: tuple[Face, ...] = ()
        views = views_of(photo, chosen) if needs_pixels(options) else [photo.view(0)] * len(chosen)
        plan = self.recognisers.get(options.recogniser).model.plan
        for part in _portions(len(chosen), plan, whole=report is None):
            described = self._refined(
                views[part], index[part], chosen.take(np.arange(len(chosen))[part]), options, scope
            )
            faces += described
            if report is not None:
                for face in described:
                    report(face, len(chosen))
        done = time.perf_counter()
        return FaceAnalysis(faces, photo.width, photo.height, (done - detected) * 1e3)

    async def require(self, options: FaceOptions) -> None:
        """Wait briefly for the models that `options` needs and that are not loaded yet.

        Raises ModelUnavailable if one is still missing.
        """
        wanted = self._wanted(options)
        await asyncio.gather(*(group.settle() for group in wanted))
        for group in wanted:
            group.get()

    def wait_for_models(self, options: FaceOptions) -> None:
        """Wait until the models that `options` needs are loaded, however long that takes. Raises ModelUnavailable."""
        for group in self._wanted(options):
            group.wait()

    @contextmanager
    def hold(self, options: FaceOptions) -> Iterator[None]:
        """Keeps the models that `options` needs for the length of a request. Raises ModelUnavailable."""
        with ExitStack() as stack:
            for group in self._wanted(options):
                stack.enter_context(group.hold())
            yield

    def _wanted(self, options: FaceOptions) -> list[OnDemand[Any]]:
        groups = ((self.pose, options.pose), (self.landmarks_68, options.landmarks_68))
        recognisers = self.recognisers.wanted(options.recogniser)
        return [*self._traits_wanted(options), *(group for group, asked in groups if asked), *recognisers]

    def _traits_wanted(self, options: FaceOptions) -> list[OnDemand[Sequence[Trait]]]:
        groups = ((self.age_gender, options.attributes), (self.masks, options.masks))
        return [group for group, asked in groups if asked]

    def _refined(
        self, views: Sequence[View], index: list[int], chosen: Detections, options: FaceOptions, scope: CancelScope
    ) -> tuple[Face, ...]:
        """The faces; those that are seen in the same view together."""
        described: dict[int, Face] = {}
        for view in {id(view): view for view in views}.values():
            places = [place for place, own in enumerate(views) if own is view]
            seen = chosen.take(np.array(places))
            faces = self._seen_in(view, [index[place] for place in places], seen, options, scope)
            described.update(zip(places, faces, strict=True))
        return tuple(described[place] for place in range(len(views)))

    def _seen_in(
        self, view: View, index: list[int], chosen: Detections, options: FaceOptions, scope: CancelScope
    ) -> tuple[Face, ...]:
        boxes, landmarks = in_view(chosen, view)
        found = replace(chosen, boxes=boxes, landmarks=landmarks)
        if any(getattr(options, name) for name in REFINED):
            found = self._refine(view.pixels, found, options, scope)
        faces = self._describe(view, index, found, options, scope)
        return tuple(replace(face, box=box) for face, box in zip(faces, chosen.boxes, strict=True))

    def embed_crop(self, crop: Image, options: FaceOptions, scope: CancelScope) -> FaceAnalysis:
        """The one face of an aligned 112×112 crop, without detection. Raises ImageError for another size."""
        height, width = crop.shape[:2]
        if (height, width) != (ARCFACE_SIZE, ARCFACE_SIZE):
            raise ImageError(
                f"embed_only takes aligned {ARCFACE_SIZE}x{ARCFACE_SIZE} crops; this image is {width}x{height}"
            )
        started = time.perf_counter()
        box = np.array([[0, 0, width, height]], np.float32)
        whole = Detections(box, np.ones(1, np.float32), ARCFACE_TEMPLATE[np.newaxis], np.ones(1, np.float32))
        faces = self._describe(View(crop), [0], whole, options, scope)
        return FaceAnalysis(faces, width, height, (time.perf_counter() - started) * 1e3)

    def _detect(self, photo: Photo, options: FaceOptions, scope: CancelScope) -> Detections:
        size = self._detection_size if options.detection_size is None else options.detection_size
        find = self._detection.find_any_way if self._rotates(options) else self._detection.find
        return find(photo, size, options.threshold, options.nms_threshold, scope)

    def _rotates(self, options: FaceOptions) -> bool:
        return (options.rotate or self._rotate) == "auto"

    def _refine(self, image: Image, faces: Detections, options: FaceOptions, scope: CancelScope) -> Detections:
        """The same faces with landmarks from close-ups of each."""
        if self._refinement is None:
            return faces
        return self._refinement.refine(image, faces, scope, rotate=self._rotates(options))

    def _describe(
        self, view: View, index: list[int], found: Detections, options: FaceOptions, scope: CancelScope
    ) -> tuple[Face, ...]:
        """The faces found, which are in pixels of the view, in pixels of the image."""
        image, landmarks = view.pixels, view.points_on_image(found.landmarks)
        embedding = options.embedding or options.quality
        crops = [align(image, points) for points in found.landmarks] if embedding or options.crops else []
        recogniser = self.recognisers.get(options.recogniser)
        vectors, norms = recogniser.embed(crops, scope) if embedding and crops else (None, None)
        traits = [trait for group in self._traits_wanted(options) for trait in group.get()]
        attributes = self._attributes(image, found, traits, scope)
        poses = self._poses(image, found, scope) if options.pose else None
        points = self._points(image, found, scope) if options.landmarks_68 else None
        return tuple(
            Face(
                index=index[i],
                box=view.edges_on_image(found.boxes[i]),
                score=float(found.scores[i]),
                landmarks=landmarks[i],
                vector=vectors[i] if vectors is not None and options.embedding else None,
                norm=float(norms[i]) if norms is not None and options.embedding else None,
                crop=encode_jpeg(crops[i]) if options.crops else None,
                attributes=attributes[i],
                quality=quality_of(recogniser.calibration, crops[i], landmarks[i], float(norms[i]))
                if norms is not None and options.quality
                else None,
                pose=None if poses is None else poses[i],
                landmarks_68=None if points is None else view.points_on_image(points[i]),
                scale=float(found.scales[i]),
            )
            for i in range(len(found))
        )

    def _poses(self, image: Image, found: Detections, scope: CancelScope) -> list[Pose]:
        """Only the roll where there is no pose model."""
        estimator = self.pose.get()
        if estimator is None:
            return [Pose(roll_of(points)) for points in found.landmarks]
        return estimator.poses(image, found, scope)

    def _points(self, image: Image, found: Detections, scope: CancelScope) -> list[Array] | None:
        finder = self.landmarks_68.get()
        return None if finder is None else finder.landmarks(image, found, scope)

    @staticmethod
    def _attributes(image: Image, found: Detections, traits: Sequence[Trait], scope: CancelScope) -> list[Attributes]:
        """The attributes of each face, combined from all attribute models."""
        known = [Attributes()] * len(found)
        for trait in traits:
            crops = [
                trait.reader.crop(image, box, points) for box, points in zip(found.boxes, found.landmarks, strict=True)
            ]
            outputs = trait.model.run([trait.reader.prepare(crop) for crop in crops], scope)
            said = [trait.reader.decode(output) for output in outputs]
            known = [merged(a, b) for a, b in zip(known, said, strict=True)]
        return known


def _portions(faces: int, plan: Plan, *, whole: bool) -> Iterator[slice]:
    """All faces, or as many at a time as the recogniser's lanes run concurrently."""
    size = faces if whole else plan.lanes * plan.max_batch
    for start in range(0, faces, max(1, size)):
        yield slice(start, start + size)


def needs_pixels(options: FaceOptions) -> bool:
    """Whether more than boxes and scores is wanted of the faces."""
    return options.masks or any(getattr(options, name) for name in REFINED)


def detections_of(faces: Sequence[Face]) -> Detections:
    """Boxes, scores and landmarks of the faces."""
    if not faces:
        return EMPTY
    return Detections(
        np.stack([face.box for face in faces]),
        np.array([face.score for face in faces], np.float32),
        np.stack([face.landmarks for face in faces]),
        np.array([face.scale for face in faces], np.float32),
    )


def merged(first: Attributes, second: Attributes) -> Attributes:
    """The attributes of both; `second` takes precedence."""
    said = {item.name: value for item in fields(second) if (value := getattr(second, item.name)) is not None}
    return replace(first, **said)


def select(found: Detections, options: FaceOptions) -> tuple[list[int], Detections]:
    """The faces that pass the options' filters, and their ranks: first the limit (largest areas), then the sizes."""
    width, height = (found.boxes[:, 2:] - found.boxes[:, :2]).T
    order = np.arange(len(found))
    if 0 < options.limit < len(found):
        order = np.argsort(-width * height, kind="stable")[: options.limit]
    rank = np.arange(len(order))
    wide = width[order]
    kept = (wide >= options.min_size) & ((options.max_size <= 0) | (wide <= options.max_size))
    return [int(i) for i in rank[kept]], found.take(order[kept])
