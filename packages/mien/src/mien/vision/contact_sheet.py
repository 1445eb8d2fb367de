"""Contact sheets: many faces on one page, each with the name of its image."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from mien.vision.align import ARCFACE_SIZE
from mien.vision.types import Image

COLUMNS, ROWS = 10, 12
"""Of one page: it is 1,220 × 1,836 pixels at most."""
_GAP = 10
_LETTER = 11
"""Height of the letters in pixels."""
_LINE = 15
_LINES = 2
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_CELL = ARCFACE_SIZE + _GAP, ARCFACE_SIZE + _LINES * _LINE + _GAP


class Page:
    """One page, which fills row by row."""

    def __init__(self) -> None:
        self._paper = PilImage.new("RGB", (COLUMNS * _CELL[0], ROWS * _CELL[1]), _PAPER)
        self._pen = ImageDraw.Draw(self._paper)
        self._font = ImageFont.load_default(_LETTER)
        self.faces = 0

    @property
    def is_full(self) -> bool:
        return self.faces == COLUMNS * ROWS

    def add(self, crop: Image, words: Sequence[str]) -> None:
        """Add an aligned crop of 112×112 with two lines of words below; they are shortened to its width."""
        row, column = divmod(self.faces, COLUMNS)
        left, top = column * _CELL[0] + _GAP // 2, row * _CELL[1] + _GAP // 2
        self._paper.paste(PilImage.fromarray(crop[..., ::-1]), (left, top))
        for number, line in enumerate(words[:_LINES]):
            at = left, top + ARCFACE_SIZE + 1 + number * _LINE
            self._pen.text(at, self._fitting(_latin(line)), fill=_INK, font=self._font)
        self.faces += 1

    def pixels(self) -> Image:
        """The page as far as it is filled."""
        columns, rows = min(self.faces, COLUMNS), -(-self.faces // COLUMNS)
        return np.ascontiguousarray(np.asarray(self._paper)[: rows * _CELL[1], : columns * _CELL[0], ::-1])

    def _fitting(self, line: str) -> str:
        """The line, without its middle where it is too long: names differ at their ends."""
        kept = len(line)
        shown = line
        while kept > 2 and self._font.getlength(shown) > ARCFACE_SIZE:
            kept -= 1
            shown = f"{line[: kept // 2]}…{line[len(line) - (kept - kept // 2) :]}"
        return shown


def _latin(line: str) -> str:
    """The line without accents: Pillow's own font has only the letters of ASCII; others are boxes."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", line) if not unicodedata.combining(letter))
