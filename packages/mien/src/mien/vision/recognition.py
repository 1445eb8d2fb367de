"""Face recognition: aligned crops to model inputs, raw outputs to unit vectors, and their similarity."""

import numpy as np

from mien.errors import ImageError
from mien.vision.align import ARCFACE_SIZE
from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image
from mien.zoo.manifest import Input


def recogniser_tensor(crop: Image, spec: Input) -> Array:
    """An aligned crop as the recogniser's input, without a batch axis.

    Raises ImageError if the crop does not have the model's input size (112 × 112 unless the manifest says otherwise).
    """
    height, width = spec.height or ARCFACE_SIZE, spec.width or ARCFACE_SIZE
    rows, columns = crop.shape[:2]
    if (rows, columns) != (height, width):
        raise ImageError(f"an aligned crop is {width}x{height} pixels; this image is {columns}x{rows}")
    return to_tensor(crop, spec, height, width)


def normalise(raw: Array) -> tuple[Array, Array]:
    """Raw embeddings [N, D] as unit vectors [N, D], and their original lengths [N]; both float32.

    A zero vector stays zero. Raises ValueError for values that are not finite.
    """
    if not np.isfinite(raw).all():
        raise ValueError("the recogniser returned values that are not finite")
    norms = np.linalg.norm(raw, axis=1).astype(np.float32)
    unit = raw / np.where(norms > 0, norms, np.float32(1))[:, None]
    return unit.astype(np.float32, copy=False), norms


def cosine_similarity(a: Array, b: Array) -> Array:
    """The cosine similarity [N, M], float32 in -1..1, of the unit vectors `a` [N, D] and `b` [M, D].

    Raises ValueError for vectors of different lengths.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: made by different models?")
    cosines: Array = np.clip(a @ b.T, np.float32(-1), np.float32(1))
    return cosines
