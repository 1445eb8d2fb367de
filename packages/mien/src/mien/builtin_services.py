"""The built-in services: what a server answers without any app or node, and the operations behind them."""

from dataclasses import dataclass

from mien.engine.engine import Engine, Handlers
from mien.faces.face_v1 import FaceV1Service
from mien.faces.pipeline import FacePipeline
from mien.faces.service import DrawFaces, FaceDrawer, FaceFinder, FindFaces
from mien.inference.answers import Answers
from mien.inference.classification import ClassificationService, Classifier, Classify
from mien.inference.contract import Service
from mien.inference.embedding import Embed, Embedder, EmbeddingService
from mien.inference.image_model import ImageModel
from mien.inference.images import ImageLimits
from mien.inference.ocr import LineFinder, OcrService, ReadLines
from mien.inference.text_model import TextModel
from mien.metrics import Metrics
from mien.vision.text_lines import LineReader
from mien.zoo.on_demand import OnDemand


@dataclass(frozen=True)
class BuiltinModels:
    """What the built-in services run on; None where a server has no such model."""

    pipeline: FacePipeline
    detector: str
    """The name that detections carry."""
    recogniser: str
    """The name that embeddings of faces carry."""
    image: OnDemand[ImageModel] | None
    text: OnDemand[TextModel] | None
    reader: LineReader | None


def builtin_handlers(models: BuiltinModels, limits: ImageLimits) -> Handlers:
    """The operations that the models make possible."""
    return {
        FindFaces: FaceFinder(models.pipeline, limits),
        DrawFaces: FaceDrawer(models.pipeline, limits),
        Embed: Embedder(models.image, models.text, limits),
        **({} if models.image is None else {Classify: Classifier(models.image, limits)}),
        **({} if models.reader is None else {ReadLines: LineFinder(models.reader, limits)}),
    }


def builtin_services(
    engine: Engine, metrics: Metrics, models: BuiltinModels, limits: ImageLimits, *, threshold: float, strict: bool
) -> list[Service]:
    """The services that the models make possible.

    `threshold`: the default for faces. `strict`: refuse unknown metadata.
    """
    answers = Answers(engine, metrics)

    def faces(model: str, *, embedding: bool) -> FaceV1Service:
        return FaceV1Service(
            answers, metrics, limits, model=model, embedding=embedding, threshold=threshold, strict=strict
        )

    services: list[Service] = [faces(models.detector, embedding=False), faces(models.recogniser, embedding=True)]
    image, text = models.image, models.text
    if image is not None or text is not None:
        image_name, text_name = image.name if image else None, text.name if text else None
        services.append(EmbeddingService(answers, limits, image=image_name, text=text_name, strict=strict))
    if image is not None:
        services.append(ClassificationService(answers, limits, image, strict=strict))
    if models.reader is not None:
        services.append(OcrService(answers, limits, models.reader.name, strict=strict))
    return services
