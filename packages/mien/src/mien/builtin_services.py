"""The built-in services: what a server answers without any app or node."""

from mien.faces.face_detection import face_detection
from mien.faces.face_recognition import face_recognition
from mien.faces.pipeline import FacePipeline
from mien.inference.classification import ClassificationService
from mien.inference.contract import Service
from mien.inference.embedding import EmbeddingService
from mien.inference.image_model import ImageModel
from mien.inference.items import ItemWorkers
from mien.inference.ocr import OcrService
from mien.inference.registry import ServiceRegistry
from mien.inference.text_model import TextModel
from mien.metrics import Metrics
from mien.settings import Models
from mien.vision.text_lines import LineReader
from mien.zoo.on_demand import OnDemand


def builtin_services(
    workers: ItemWorkers,
    models: Models,
    metrics: Metrics,
    *,
    pipeline: FacePipeline,
    image: OnDemand[ImageModel] | None,
    text: OnDemand[TextModel] | None,
    reader: LineReader | None,
) -> ServiceRegistry:
    """A registry of the services that the given models make possible."""
    services: list[Service] = [
        face_detection(workers, metrics, pipeline, models.detector),
        face_recognition(workers, metrics, pipeline, models.recogniser),
    ]
    if image is not None or text is not None:
        services.append(EmbeddingService(workers, image, text))
    if image is not None:
        services.append(ClassificationService(workers, image))
    if reader is not None:
        services.append(OcrService(workers, reader))
    registry = ServiceRegistry()
    for service in services:
        registry.add(service)
    return registry
