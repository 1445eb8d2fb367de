"""The service `face_recognition`: boxes, landmarks and embeddings."""

from mien.metrics import Metrics
from mien.services.face_v1 import FaceV1Service
from mien.services.faces import FacePipeline
from mien.services.items import ItemWorkers

ALIASES = (
    "face_embed", "face_detect_and_embed", "face_recognizer_v1", "face_recogniser", "face_recognizer",
    "face_embedding",
)  # fmt: skip


def face_recognition(workers: ItemWorkers, metrics: Metrics, pipeline: FacePipeline, recogniser: str) -> FaceV1Service:
    """Finds, aligns and embeds faces. `recogniser`: the name of the model that the embeddings come from."""
    return FaceV1Service(
        "face_recognition", "face_recognition", ALIASES, workers=workers, metrics=metrics, pipeline=pipeline,
        model=recogniser, embedding=True,
    )  # fmt: skip
