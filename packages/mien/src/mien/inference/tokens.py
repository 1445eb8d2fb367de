"""Tokenizers: texts as rows of token numbers, truncated and filled up as a model expects it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from mien.errors import ModelError
from mien.inference.images import payload_refused
from mien.zoo.manifest import TextInput

MAX_CHARACTERS = 65536  # truncated before tokenising, which bounds its time; no model takes so many
STEP = 16
"""Token counts are rounded up to a multiple of this, so that texts of similar length share a batch."""

Tokens = NDArray[np.int64]
"""[K, S] int64: ids, mask (1 for tokens, 0 for padding) and, where the model has them, types (all 0)."""


def read_tokenizer(path: Path, tokens: int) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, whatever its kind; truncates to `tokens`. Raises ModelError."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path.name}: not a valid tokenizer file: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(tokens)
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> tuple[Encoding, bool]:
    """The text's tokens, and whether it was truncated. Raises InvalidField for a text without any tokens."""
    encoding = tokenizer.encode(text[:MAX_CHARACTERS])
    if sum(encoding.special_tokens_mask) == len(encoding.ids):
        raise payload_refused("expected a text; this one is empty or blank")
    return encoding, bool(encoding.overflowing) or len(text) > MAX_CHARACTERS


class ClipTokens:
    """The tokenizer of a CLIP (BPE) or SigLIP (SentencePiece): ids and mask. Thread-safe."""

    def __init__(self, path: Path, spec: TextInput) -> None:
        """`path`: a `tokenizer.json`. Raises ModelError."""
        self._spec = spec
        self.most = spec.tokens
        self._tokenizer = read_tokenizer(path, spec.tokens)
        padding = self._tokenizer.token_to_id(spec.padding)
        if padding is None:
            raise ModelError(f"{path.name}: has no token {spec.padding!r}, which the manifest's [text] pads with")
        self._padding = padding

    def encode(self, text: str) -> tuple[Tokens, int, bool]:
        """The text as tokens [2, S]; the number of tokens; whether the text was truncated.

        Raises InvalidField for a text without any tokens.
        """
        encoding, truncated = encode(self._tokenizer, text)
        count = len(encoding.ids)
        # The text half of a CLIP is causal and takes its vector from the end token: what follows that changes nothing.
        length = self._spec.tokens if self._spec.always_full else min(self._spec.tokens, count + -count % STEP)
        packed = np.full((2, length), self._padding, np.int64)
        packed[0, :count] = encoding.ids
        packed[1] = 1 if self._spec.always_full else np.arange(length) < count
        return packed, count, truncated


def clip_feed(batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Split a batch [N, 2, S] into the inputs [N, S] of a CLIP's text half; some have no mask."""
    return {name: np.ascontiguousarray(batch[:, row]) for row, name in enumerate(("input_ids", "attention_mask"))}
