"""Detection with a real model, without a server, and the people of the test photos."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from mien.detection_size import DetectionSize
from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels
from mien.engine.plan import Plan
from mien.errors import ModelError
from mien.faces.detection import FaceDetection
from mien.settings import Settings
from mien.vision.detectors import build_detector
from mien.vision.types import Detections, Image
from mien.zoo.manifest import Input
from mien.zoo.zoo import Zoo
from testing.crowds import Portrait
from testing.tools import missing

PHOTOS = Path(__file__).parents[2] / "photos"
Find = Callable[..., Detections]


@pytest.fixture(scope="session")
def finder() -> Iterator[Callable[..., Find]]:
    """`finder("yunet", side=None)`: a function `find(image, size="auto", threshold=0.6)`.

    `side`: as if the model took inputs of that side only.
    """
    zoo, models = Zoo.from_settings(Settings()), LoadedModels(threads=1)

    def make(name: str, side: int | None = None) -> Find:
        manifest = zoo.manifest(name)
        spec = manifest.input or Input(name="input")
        if side is not None:
            manifest = replace(manifest, input=replace(spec, height=side, width=side))
        try:
            path = zoo.ensure(name)
        except ModelError as error:
            missing(f"the model {name} ({error.message})")
        model = models.load(name, path, Plan(lanes=1, lane_threads=1, max_batch=1), warm_up=(3, 64, 64))
        overlap = 0.3 if manifest.nms_threshold is None else manifest.nms_threshold
        detection = FaceDetection(build_detector(manifest), model, nms=overlap, max_faces=4096)

        def find(image: Image, size: DetectionSize = "auto", threshold: float = 0.6) -> Detections:
            return detection.find(image, size, threshold, None, CancelScope())

        return find

    yield make
    models.close()


@pytest.fixture(scope="session")
def find(finder: Callable[..., Find]) -> Find:
    """As the server looks for faces, with its default detector."""
    return finder("yunet")


@pytest.fixture(scope="session")
def people(find: Find) -> list[Portrait]:
    """The test photos, each with the box of its face."""
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in sorted(PHOTOS.glob("*.jpg"))]
    return [Portrait(image, find(image).boxes[0]) for image in images]
