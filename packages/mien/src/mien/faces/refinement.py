"""The second landmark pass over the faces of an image, whichever way their heads are turned. Blocks its thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.vision.detectors import Detector
from mien.vision.refine import (
    CROP_SIDE,
    MOST_TURNS,
    SEARCH_SIDE,
    STEPS,
    SURE,
    THRESHOLD,
    Look,
    clearer,
    clearest,
    face_close_up,
    first_roll,
    look_of,
    straighter,
    turned,
    turned_again,
)
from mien.vision.types import Array, Detections, Image

FACES_AT_ONCE = 32
"""Bounds the memory for close-ups: 0.3 MB each, and up to eight smaller ones of a face."""
MOST_CANDIDATES = 16
"""Detections of a close-up, which shows one face and parts of its neighbours."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A close-up to look at: the face's box (x1, y1, x2, y2), and the degrees by which its head leans."""

    box: Array
    roll: float


class LandmarkRefinement:
    """A detector with its model for close-ups. Stateless between images; thread-safe."""

    def __init__(self, detector: Detector, model: Model, *, nms: float) -> None:
        """`nms`: intersection over union above which two boxes are one face."""
        self._detector = detector
        self._model = model
        self._nms = nms

    def refine(self, image: Image, faces: Detections, scope: CancelScope, *, rotate: bool) -> Detections:
        """The same faces with landmarks from close-ups of each; those of the first pass where a close-up shows no face.

        `rotate`: also heads that lie or are upside down, at the cost of more close-ups of faces that are not seen
        clearly. What is found of a face does not depend on the others. Raises what Model.run raises.
        """
        parts = [
            self._refined(image, faces.take(np.arange(start, min(start + FACES_AT_ONCE, len(faces)))), scope, rotate)
            for start in range(0, len(faces), FACES_AT_ONCE)
        ]
        return replace(faces, landmarks=np.concatenate(parts)) if parts else faces

    def _refined(self, image: Image, faces: Detections, scope: CancelScope, rotate: bool) -> Array:
        """The landmarks [N, 5, 2] of the faces."""
        wanted = [Turned(box, first_roll(points)) for box, points in zip(faces.boxes, faces.landmarks, strict=True)]
        looks = self._looks(image, wanted, CROP_SIDE, scope)
        if rotate:
            looks = self._searched(image, faces, looks, scope)
        looks = self._straightened(image, faces, looks, scope)
        return np.stack(
            [
                first if look.landmarks is None else look.landmarks
                for look, first in zip(looks, faces.landmarks, strict=True)
            ]
        )

    def _searched(self, image: Image, faces: Detections, looks: Sequence[Look], scope: CancelScope) -> list[Look]:
        """The looks; those that are not sure were tried at every rotation, and are as the clearest shows the face."""
        unsure = [number for number, look in enumerate(looks) if look.score < SURE]
        wanted = [Turned(faces.boxes[i], turned(looks[i].roll + step)) for i in unsure for step in STEPS]
        seen = self._looks(image, wanted, SEARCH_SIDE, scope)
        rolls = {}
        for start, i in zip(range(0, len(seen), len(STEPS)), unsure, strict=True):
            clear = clearest(seen[start : start + len(STEPS)])
            if clear.roll != looks[i].roll:
                rolls[i] = clear.roll
        return self._replaced(image, faces, looks, rolls, clearer, scope)

    def _straightened(self, image: Image, faces: Detections, looks: Sequence[Look], scope: CancelScope) -> list[Look]:
        """The looks; heads that lean in them were looked at again, turned by what was seen."""
        known = list(looks)
        leaning = list(range(len(known)))
        for _ in range(MOST_TURNS):
            rolls = {i: roll for i in leaning if (roll := turned_again(known[i])) is not None}
            before, known = known, self._replaced(image, faces, known, rolls, straighter, scope)
            leaning = [i for i in rolls if known[i] is not before[i]]
        return known

    def _replaced(
        self,
        image: Image,
        faces: Detections,
        looks: Sequence[Look],
        rolls: Mapping[int, float],
        better: Callable[[Look, Look], bool],
        scope: CancelScope,
    ) -> list[Look]:
        """The looks, those numbered in `rolls` taken again at that roll, where the new one is `better` (known, new)."""
        again = self._looks(image, [Turned(faces.boxes[i], roll) for i, roll in rolls.items()], CROP_SIDE, scope)
        replaced = list(looks)
        for i, new in zip(rolls, again, strict=True):
            if better(replaced[i], new):
                replaced[i] = new
        return replaced

    def _looks(self, image: Image, wanted: Sequence[Turned], size: int, scope: CancelScope) -> list[Look]:
        """What close-ups of `size` × `size` pixels show."""
        if not wanted:
            return []
        crops = [face_close_up(image, one.box, one.roll, size) for one in wanted]
        prepared = [self._detector.prepare(crop.image, size) for crop in crops]
        outputs = self._model.run([p.tensor for p in prepared], scope)
        seen = [
            self._detector.decode(output, p, THRESHOLD, self._nms, MOST_CANDIDATES, averaged=True)
            for output, p in zip(outputs, prepared, strict=True)
        ]
        return [look_of(found, crop, one.roll) for found, crop, one in zip(seen, crops, wanted, strict=True)]
