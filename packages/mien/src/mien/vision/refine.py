"""The second landmark pass: landmarks from a close-up are much more accurate than those from the whole image.

The detector knows upright heads only. A head that leans or lies is found all the same, with a high score, but with the
landmarks of an upright one, and its embedding would match nobody. So the close-up is turned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.vision.types import Array, Detections, Image
from mien.vision.upright import CloseUp, Square, close_up, roll_of

CROP_SIDE = 160
SEARCH_SIDE = 96
"""Side of the crops in which the way of a head is searched: enough to tell, for a third of the time."""
CROP_FACES = 2.0
"""Side of a close-up, in lengths of the face's longer side."""
THRESHOLD = 0.5
"""Detection threshold of the second pass."""
LEANING = 10.0
"""Degrees from which the landmarks of the first pass turn the first close-up: below, they are too inaccurate."""
SURE = 0.92
"""Score of a close-up from which the head stands upright in it. Portraits score 0.92 to 0.95, turned by 45° 0.86 to
0.90, upside down 0.78 to 0.90."""
STEPS = tuple(range(0, 360, 45))
"""Degrees by which an unsure close-up is turned further."""
STRAIGHT = 4.0
"""Degrees of roll left in a close-up up to which it is not turned again."""
SHOWN = 2.0
"""The roll that landmarks show is about half of what is left: they lean towards those of an upright head."""
MOST_TURNS = 3
"""Close-ups of one face after the first, at most."""
WORSE = 0.05
"""A turned close-up whose score is lower by more than that is not believed."""
OFF_CENTRE = 0.4
"""Distance from the crop's centre, as a share of the face's length, up to which a detection is the face looked at."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a close-up of a face showed."""

    roll: float
    """Degrees by which the close-up was turned."""
    score: float = 0.0
    """0 if no face was seen."""
    landmarks: Array | None = None
    """[5, 2] in pixels of the image."""

    @property
    def left_over(self) -> float:
        """The roll that the landmarks show within the close-up, -180..180 degrees."""
        return 0.0 if self.landmarks is None else turned(roll_of(self.landmarks) - self.roll)


def turned(degrees: float) -> float:
    """The same direction within -180..180."""
    return (degrees + 180) % 360 - 180


def first_roll(landmarks: Array) -> float:
    """Degrees by which to turn the first close-up of a face with these landmarks [5, 2] of the first pass."""
    roll = roll_of(landmarks)
    return roll if abs(roll) >= LEANING else 0.0


def face_close_up(image: Image, box: Array, roll: float, size: int = CROP_SIDE) -> CloseUp:
    """A close-up of the face in `box` (x1, y1, x2, y2, image pixels), turned back by `roll` degrees."""
    longer = max(float((box[2:] - box[:2]).max()), 1.0)
    centre = ((box[:2] + box[2:]) / 2).astype(np.float32)
    return close_up(image, Square(centre, CROP_FACES * longer, roll), size)


def look_of(found: Detections, crop: CloseUp, roll: float) -> Look:
    """What the close-up shows: the detection nearest to its centre. `found`: in pixels of the close-up."""
    size = crop.image.shape[0]
    offsets = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - size / 2
    distances = np.hypot(offsets[:, 0], offsets[:, 1])
    if not len(found) or distances.min() > OFF_CENTRE * size / CROP_FACES:
        return Look(roll)
    nearest = int(np.argmin(distances))
    return Look(roll, float(found.scores[nearest]), crop.to_source(found.landmarks[nearest]))


def turned_again(look: Look) -> float | None:
    """Degrees to which the next close-up is turned; None if the head stands straight in this one."""
    if look.landmarks is None or abs(look.left_over) < STRAIGHT:
        return None
    return turned(look.roll + SHOWN * look.left_over)


def straighter(known: Look, new: Look) -> bool:
    """Whether the face stands straighter in the newer of two looks, and is seen about as well."""
    return new.score > known.score - WORSE and abs(new.left_over) < abs(known.left_over)


def clearer(known: Look, new: Look) -> bool:
    """Whether the newer of two looks shows the face better."""
    return new.score > known.score


def clearest(looks: Sequence[Look]) -> Look:
    """That with the highest score; the first of equals."""
    return max(looks, key=lambda look: look.score)
