"""How alike embeddings are."""

import numpy as np

from mien.vision.types import Array


def cosine_similarity(a: Array, b: Array) -> Array:
    """[N, M] float32 in -1..1: the cosine of each of the N unit vectors in `a` [N, D] with each of the M in
    `b` [M, D].

    Raises ValueError for vectors of different lengths.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: made by different models?")
    cosines: Array = np.clip(a @ b.T, np.float32(-1), np.float32(1))
    return cosines
