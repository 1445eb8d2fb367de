"""CLIP and SigLIP: images and texts as vectors of one space, and images classified by any labels."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.errors import ModelError
from mien.inference.text_model import TextVector
from mien.inference.tokens import ClipTokens
from mien.vision.clip import clip_tensor, label_scores
from mien.vision.types import Array, Image
from mien.zoo.manifest import Input, Similarity

KEPT_PROMPTS = 1024
"""Vectors of prompts that are kept: those of a set of labels are the same for every image. 3 MB with 768 numbers."""


class ClipModel:
    """A loaded pair of the families `clip_image` and `clip_text`. Thread-safe."""

    def __init__(
        self, name: str, image: Model, spec: Input, text: Model, tokens: ClipTokens, similarity: Similarity
    ) -> None:
        self.name = name
        self.max_tokens = tokens.most
        self._image = image
        self._spec = spec
        self._text = text
        self._tokens = tokens
        self._similarity = similarity
        self._lock = threading.Lock()
        self._prompts: OrderedDict[str, Array] = OrderedDict()

    def embed_image(self, image: Image, scope: CancelScope) -> Array:
        """The vector [D] of an image, of length 1. Blocks. Raises what Model.run raises."""
        (outputs,) = self._image.run([clip_tensor(image, self._spec)], scope)
        return unit_vector(next(iter(outputs.values())), self.name)

    def embed_text(self, text: str, scope: CancelScope) -> TextVector:
        """The vector of a text. Blocks. Raises InvalidField for an empty text, else what Model.run raises."""
        packed, count, truncated = self._tokens.encode(text)
        (outputs,) = self._text.run([packed], scope)
        return TextVector(unit_vector(next(iter(outputs.values())), self.name), count, truncated)

    def scores(self, image: Image, prompts: Sequence[str], scope: CancelScope) -> Array:
        """How well each prompt describes the image: [N] float32 in 0..1. Blocks. Raises as the other methods."""
        texts = self._vectors(prompts, scope)
        return label_scores(self.embed_image(image, scope), texts, self._similarity)

    def _vectors(self, prompts: Sequence[str], scope: CancelScope) -> Array:
        with self._lock:
            known = {prompt: self._prompts[prompt] for prompt in prompts if prompt in self._prompts}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        packed = [self._tokens.encode(prompt)[0] for prompt in new]
        for prompt, outputs in zip(new, self._text.run(packed, scope), strict=True):
            known[prompt] = unit_vector(next(iter(outputs.values())), self.name)
        with self._lock:
            for prompt in known:
                self._prompts[prompt] = known[prompt]
                self._prompts.move_to_end(prompt)
            while len(self._prompts) > KEPT_PROMPTS:
                self._prompts.popitem(last=False)
        return np.stack([known[prompt] for prompt in prompts])


def unit_vector(raw: Array, model: str) -> Array:
    """`raw` [D] with length 1, float32. Raises ModelError if it has no direction."""
    length = np.linalg.norm(raw)
    if not np.isfinite(length) or length == 0:
        raise ModelError(f"{model}: the embedding has no direction")
    return np.ascontiguousarray(raw / length, np.float32)
