"""An end-to-end health check: finds the face in a built-in photo."""

import asyncio
import time
from functools import cached_property
from importlib import resources

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Failed
from mien.engine.sources import Item
from mien.errors import ModelError
from mien.faces.pipeline import FaceOptions
from mien.faces.service import FaceService

DEADLINE_SECONDS = 10.0
FRESH_SECONDS = 1.0


class SelfCheck:
    """Runs the built-in photo through the pipeline. A success is cached for a second, so that frequent probes are
    cheap."""

    def __init__(self, faces: FaceService, threshold: float) -> None:
        self._faces = faces
        self._options = FaceOptions(threshold=threshold)
        self._checking = asyncio.Lock()
        self._checked = float("-inf")

    async def run(self) -> None:
        """Raises MienError if a stage does not work."""
        async with self._checking:
            if time.monotonic() - self._checked < FRESH_SECONDS:
                return
            await self._find_portrait()
            self._checked = time.monotonic()

    async def _find_portrait(self) -> None:
        (result,) = await self._faces.analyse([Item(self._portrait)], self._options, CancelScope(DEADLINE_SECONDS))
        if isinstance(result, Failed):
            raise result.error
        if not result.analysis.faces:
            raise ModelError("the self check found no face in the built-in photo")

    @cached_property
    def _portrait(self) -> bytes:
        return resources.files("mien").joinpath("data/portrait.jpg").read_bytes()
