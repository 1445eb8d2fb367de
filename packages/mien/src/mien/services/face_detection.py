"""The service `face_detection`: boxes and landmarks."""

from mien.metrics import Metrics
from mien.services.face_v1 import FaceV1Service
from mien.services.faces import FacePipeline
from mien.services.items import ItemWorkers

ALIASES = ("face_detector_v1", "face_detection", "face_detector")


def face_detection(workers: ItemWorkers, metrics: Metrics, pipeline: FacePipeline, detector: str) -> FaceV1Service:
    """Finds faces; `embedding` of its results is null. `detector`: the model's name."""
    return FaceV1Service(
        "face_detection", "face_detect", ALIASES, workers=workers, metrics=metrics, pipeline=pipeline, model=detector,
        embedding=False,
    )  # fmt: skip
