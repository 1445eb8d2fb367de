"""Finds the faces of an image: looks at it at several sizes, in tiles, and merges what they show. Blocks its thread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from mien.detection_size import DetectionSize
from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.vision.detectors import Detector
from mien.vision.detectors.scales import Level, Tile, finest_scale, levels
from mien.vision.nms import nms
from mien.vision.photo import Photo, View
from mien.vision.preprocessing import Scaled, fit, scaled
from mien.vision.quarter_turns import QUARTER_TURNS, quarter_turned, turned_back
from mien.vision.types import Detections, Image, joined

SEEN = 0.6
"""Score of a face in an image that is the right way up."""
LYING_SIZE = 480
"""Longest side at which turned images are looked at: where nothing is found upright, faces are not many and small."""


@dataclass(frozen=True, slots=True)
class Look:
    """A tile of the image at one size: one input of the model."""

    tile: Tile
    level: Level
    pixels: Scaled
    """The whole level."""

    @property
    def image(self) -> Image:
        return self.pixels.image[self.tile.top : self.tile.bottom, self.tile.left : self.tile.right]

    def on_image(self, found: Detections) -> Detections:
        """What was found in the tile, in pixels of the whole image, without what is seen better elsewhere."""
        longer = (found.boxes[:, 2:] - found.boxes[:, :2]).max(1, initial=0)
        whole = found.take(self.tile.shows_whole(found.boxes) & (longer >= self.level.least_face))
        stretch = np.array(self.pixels.stretch, np.float32)
        corner = np.array([self.tile.left, self.tile.top], np.float32)
        return replace(
            whole,
            boxes=(whole.boxes + np.tile(corner, 2)) * np.tile(stretch, 2),
            landmarks=(whole.landmarks + corner) * stretch,
            scales=whole.scales * np.float32(self.level.scale),
        )


class FaceDetection:
    """A detector with its model. Stateless between images; thread-safe."""

    def __init__(self, detector: Detector, model: Model, *, nms: float, max_faces: int) -> None:
        """`nms`: default intersection over union above which two boxes are one face. `max_faces`: of an image."""
        self._detector = detector
        self._model = model
        self._nms = nms
        self._max_faces = max_faces

    def find(
        self, image: Photo | Image, size: DetectionSize, threshold: float, overlap: float | None, scope: CancelScope
    ) -> Detections:
        """The faces with a score above `threshold`, which changes nothing about those that pass it.

        `overlap`: intersection over union above which two boxes are one face, instead of the default. Raises
        ModelError, DeadlineExceeded, Cancelled.
        """
        overlap = self._nms if overlap is None else overlap
        photo = Photo.of(image)
        view = photo.view(finest_scale(photo.height, photo.width, size))
        looks = self._looks(photo, view, size)
        # Prepared when a lane is free for them: a large image has any number of tiles.
        at_once = self._model.plan.lanes * self._model.plan.max_batch
        found: list[Detections] = []
        while group := list(islice(looks, at_once)):
            prepared = [self._detector.prepare(look.image, max(look.image.shape[:2])) for look in group]
            outputs = self._model.run([one.tensor for one in prepared], scope)
            found += [
                look.on_image(self._detector.decode(output, one, threshold, overlap, self._max_faces))
                for look, one, output in zip(group, prepared, outputs, strict=True)
            ]
        seen = merged(found, overlap, self._max_faces)
        return replace(seen, boxes=view.moved(seen.boxes), landmarks=view.moved(seen.landmarks))

    def find_any_way(
        self, image: Photo | Image, size: DetectionSize, threshold: float, overlap: float | None, scope: CancelScope
    ) -> Detections:
        """As `find`, also in an image that lies on its side or is upside down: turned, too, if it shows no face."""
        # Whether it is turned does not depend on the threshold, so that a higher one never adds faces.
        least = min(threshold, SEEN)
        photo = Photo.of(image)
        found = self.find(photo, size, least, overlap, scope)
        if not (found.scores > SEEN).any():
            lying = self._find_lying(photo.view(0), least, overlap, scope)
            found = merged([found, lying], self._nms if overlap is None else overlap, self._max_faces)
        return found.take(found.scores > threshold)

    def _find_lying(self, view: View, threshold: float, overlap: float | None, scope: CancelScope) -> Detections:
        """The faces that are seen in the image turned by one, two and three quarters, at a small size."""
        height, width = view.pixels.shape[:2]
        small = fit(view.pixels, LYING_SIZE)[0]
        factor = np.array([width / small.shape[1], height / small.shape[0]], np.float32) * np.float32(view.factor)
        found = []
        for turn in QUARTER_TURNS:
            seen = self.find(quarter_turned(small, turn), LYING_SIZE, threshold, overlap, scope)
            there = turned_back(seen, turn, *small.shape[:2])
            found.append(
                replace(
                    there,
                    boxes=view.moved(there.boxes * np.tile(factor, 2)),
                    landmarks=view.moved(there.landmarks * factor),
                    scales=there.scales / factor.max(),
                )
            )
        return merged(found, self._nms if overlap is None else overlap, self._max_faces)

    def _looks(self, photo: Photo, view: View, size: DetectionSize) -> Iterator[Look]:
        """Their stretch is that of the photo."""
        pixels = Scaled(view.pixels, (float(view.factor), float(view.factor)))
        for level in levels(photo.height, photo.width, size, self._detector.largest_input):
            pixels = scaled(pixels, level.height, level.width)  # from the level before it, not from all pixels again
            for tile in level.tiles:
                yield Look(tile, level, pixels)


def merged(parts: Sequence[Detections], overlap: float, max_faces: int) -> Detections:
    """The best `max_faces` of all parts, each once: of boxes that overlap by more than `overlap` the best stays.

    What lies inside a better box is an eye or a mouth that looks like a face where the image is large; what lies around
    one is its head where the image is small. Taking only faces above a threshold, before or after, makes no difference:
    a box is dropped for a better one only.
    """
    everything = joined(parts)
    kept = nms(everything.boxes, everything.scores, overlap, max_faces, nested=overlap >= 1)
    return everything.take(kept)
