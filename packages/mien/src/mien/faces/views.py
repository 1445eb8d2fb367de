"""In which view of a photo each face is looked at closely: in the smallest one that has enough pixels of it.

A face's view depends on its own size and on the photo, not on the other faces: neither does what is found of it.
"""

import numpy as np

from mien.vision.photo import Photo, View
from mien.vision.types import Array, Detections

FACE_PIXELS = 120.0
"""Length of a face, in pixels of its view, from which more of them make no difference."""
SURROUNDINGS = 1.5
"""What crops may show around a face, in lengths of its box: close-ups are twice as long as it, and turned."""


def views_of(photo: Photo, faces: Detections) -> list[View]:
    """The view for each face, in pixels of the image. Raises ImageTruncated."""
    longer = np.maximum((faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, initial=0), 1)
    factors = [photo.factor_for(min(1.0, FACE_PIXELS / float(length))) for length in longer]
    views = {
        factor: photo.close_view(factor, surroundings(faces.take(np.array(factors) == factor)))
        for factor in sorted(set(factors), reverse=True)
    }
    return [views[factor] for factor in factors]


def surroundings(faces: Detections) -> Array:
    """The part [4] (x1, y1, x2, y2) of the image that crops of these faces may show."""
    around = SURROUNDINGS * (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, keepdims=True)
    return np.concatenate([(faces.boxes[:, :2] - around).min(0), (faces.boxes[:, 2:] + around).max(0)])


def in_view(faces: Detections, view: View) -> tuple[Array, Array]:
    """Boxes [N, 4] and landmarks [N, 5, 2] in pixels of the view."""
    return view.edges_of(faces.boxes), view.points_of(faces.landmarks)
