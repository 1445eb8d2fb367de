"""The service `face_detection`: boxes and landmarks."""

from mien.faces.face_v1 import FaceV1Service
from mien.faces.pipeline import FacePipeline
from mien.inference.items import ItemWorkers
from mien.metrics import Metrics

ALIASES = ("face_detector_v1", "face_detection", "face_detector")


def face_detection(workers: ItemWorkers, metrics: Metrics, pipeline: FacePipeline, detector: str) -> FaceV1Service:
    """Finds faces; `embedding` of its results is null. `detector`: the model's name."""
    return FaceV1Service(
        "face_detection",
        "face_detect",
        ALIASES,
        workers=workers,
        metrics=metrics,
        pipeline=pipeline,
        model=detector,
        embedding=False,
    )
