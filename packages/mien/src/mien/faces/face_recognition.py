"""The service `face_recognition`: boxes, landmarks and embeddings."""

from mien.faces.face_v1 import FaceV1Service
from mien.faces.pipeline import FacePipeline
from mien.inference.items import ItemWorkers
from mien.metrics import Metrics

ALIASES = (
    "face_embed",
    "face_detect_and_embed",
    "face_recognizer_v1",
    "face_recogniser",
    "face_recognizer",
    "face_embedding",
)


def face_recognition(workers: ItemWorkers, metrics: Metrics, pipeline: FacePipeline, recogniser: str) -> FaceV1Service:
    """Finds, aligns and embeds faces. `recogniser`: the name of the model that the embeddings come from."""
    return FaceV1Service(
        "face_recognition",
        "face_recognition",
        ALIASES,
        workers=workers,
        metrics=metrics,
        pipeline=pipeline,
        model=recogniser,
        embedding=True,
    )
