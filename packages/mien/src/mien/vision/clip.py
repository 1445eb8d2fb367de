"""CLIP and SigLIP: an image as their input, and the cosines of an image and texts as scores."""

import numpy as np
from PIL import Image as Pillow

from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image
from mien.zoo.manifest import Input, Similarity

SIDE = 224
MAX_ASPECT = 32
"""Longest side : shortest side up to which an image is scaled as a whole before it is cropped."""
_FILTERS = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}


def clip_tensor(image: Image, spec: Input) -> Array:
    """The image as the model's input, without a batch axis.

    Scaled by Pillow's filters, which average over all pixels that make one: those of OpenCV do not, and vectors of the
    same image would differ from those of the reference implementation.
    """
    width, height = spec.width or SIDE, spec.height or SIDE
    source = Pillow.fromarray(image)  # the order of the channels does not matter for scaling
    way = _FILTERS[spec.interpolation]
    scaled = source.resize((width, height), way) if spec.fit == "squash" else _centre(source, width, height, way)
    return to_tensor(np.asarray(scaled), spec, height, width)


def _centre(source: Pillow.Image, width: int, height: int, way: Pillow.Resampling) -> Pillow.Image:
    """Scaled so that the shorter side fits, then cropped at the centre: with the roundings of the reference."""
    columns, rows = source.size
    short = max(width, height)
    shortest = min(columns, rows)
    wide, high = short * columns // shortest, short * rows // shortest
    left, top = (wide - width) // 2, (high - height) // 2
    if max(columns, rows) <= MAX_ASPECT * shortest:
        return source.resize((wide, high), way).crop((left, top, left + width, top + height))
    # As a whole, a line of one pixel would become gigabytes: only the part that is kept is scaled.
    across, down = columns / wide, rows / high
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return source.resize((width, height), way, box=box)


def label_scores(image: Array, texts: Array, similarity: Similarity) -> Array:
    """The score 0..1 of each text for the image. `image` [D] and `texts` [N, D] have length 1; returns [N] float32."""
    logits = (texts @ image).astype(np.float64) * similarity.scale
    if similarity.bias is not None:
        scores = np.exp(-np.logaddexp(0, -(logits + similarity.bias)))
    else:
        shares = np.exp(logits - logits.max())
        scores = shares / shares.sum()
    return np.asarray(scores, np.float32)
