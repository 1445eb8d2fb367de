"""Text embeddings: tokens in, the mean of the last hidden state out (Reimers & Gurevych, 2019)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.inference.tokens import STEP, Tokens, encode, read_tokenizer
from mien.vision.types import Array

MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained with


@dataclass(frozen=True, slots=True)
class TextVector:
    """A text's embedding, and how much of the text it covers."""

    vector: Array
    """[D] float32, length 1."""
    tokens: int
    """Including the start and end tokens."""
    truncated: bool


class WordPieces:
    """A tokenizer that pads to a multiple of `STEP`. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """`path`: a `tokenizer.json`. Raises ModelError."""
        self._tokenizer = read_tokenizer(path, MAX_TOKENS)

    def encode(self, text: str) -> tuple[Tokens, int, bool]:
        """The text as tokens [3, S], S a multiple of 16; the number of tokens; whether the text was truncated.

        Raises InvalidField for a text without any tokens.
        """
        encoding, truncated = encode(self._tokenizer, text)
        count = len(encoding.ids)
        packed = np.zeros((3, count + -count % STEP), np.int64)
        packed[0, :count] = encoding.ids
        packed[1, :count] = 1
        return packed, count, truncated


def feed(batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Split a batch [N, 3, S] into the model's three inputs [N, S]."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: np.ascontiguousarray(batch[:, row]) for row, name in enumerate(names)}


def mean_pooled(hidden: Array, mask: NDArray[np.int64]) -> Array:
    """The mean [D] of `hidden` [S, D] over the tokens marked in `mask` [S], normalised to length 1."""
    mean: Array = hidden[mask > 0].mean(0)
    return mean / np.float32(np.linalg.norm(mean))


@dataclass(frozen=True, slots=True)
class TextModel:
    """A loaded model of the family `minilm` with its tokenizer."""

    name: str
    pieces: WordPieces
    model: Model

    def embed(self, text: str, scope: CancelScope) -> TextVector:
        """The embedding of a text. Blocks. Raises InvalidField for an empty text, else what Model.run raises."""
        packed, count, truncated = self.pieces.encode(text)
        (outputs,) = self.model.run([packed], scope)
        return TextVector(mean_pooled(next(iter(outputs.values())), packed[1]), count, truncated)
