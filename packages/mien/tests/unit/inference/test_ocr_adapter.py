"""The `ocr` service and its adapter, with a stand-in for RapidOCR; with the real one where it is installed."""

import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.sources import SourceReader
from mien.engine.thread_engine import ThreadEngine
from mien.engine.threads import ThreadPool
from mien.errors import InvalidField
from mien.inference.contract import InferRequest, InferResult, Item
from mien.inference.images import ImageLimits
from mien.inference.ocr import LineFinder, OcrService, ReadLines
from mien.inference.operation_runner import OperationRunner
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from mien.vision.text_lines import RapidOcr, ReadOptions, is_installed
from mien.vision.types import Image

LIMITS = ImageLimits(max_items=9, max_bytes=10**7, max_pixels=10**7)


class StandIn:
    """Behaves like RapidOCR: one line on images with a dark pixel, none on white ones; records its options."""

    options: dict[str, Any]

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def __call__(self, image: Image, **options: Any) -> SimpleNamespace:
        type(self).options = options
        if image.min() > 250:
            return SimpleNamespace(boxes=None, txts=None, scores=None)
        boxes = np.array([[[-1.2, 2], [900, 2.6], [900, 9], [0, 9]]], np.float32)
        return SimpleNamespace(boxes=boxes, txts=("Grüße",), scores=(1.0001,))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    module = ModuleType("rapidocr")
    module.RapidOCR = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    return StandIn


@pytest.fixture
def service() -> Iterator[Callable[[RapidOcr], OcrService]]:
    """Builds the service around a reader."""
    pool = ThreadPool(1)
    metrics = Metrics()

    def build(reader: RapidOcr) -> OcrService:
        engine = ThreadEngine(
            {ReadLines: LineFinder(reader, LIMITS)},
            reader=SourceReader(Fetcher(), images_root=None, max_bytes=1),
            threads=pool,
            admission=Admission(max_images=9, max_bytes=1),
            metrics=metrics,
            parallel=1,
            max_items=9,
        )
        return OcrService(OperationRunner(engine, metrics), LIMITS, reader.name, strict=True)

    yield build
    pool.close()


def written(text: str) -> bytes:
    image = np.full((200, 600, 3), 255, np.uint8)
    cv2.putText(image, text, (40, 110), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (0, 0, 0), 2)
    return bytes(cv2.imencode(".png", image)[1])


async def read(service: OcrService, image: bytes, **metadata: str) -> InferResult:
    request = InferRequest((Item(image, "image/png"),), "", metadata)
    (message,) = [m async for m in service.infer(request, CancelScope(60), stream=False)]
    return await message.encoded()


async def test_lines_become_ocr_v1(stand_in: type[StandIn], service: Callable[[RapidOcr], OcrService]) -> None:
    message = await read(service(RapidOcr(2)), written("x"), recognition_threshold="0.3", use_angle_cls="false")
    assert json.loads(message.data) == {
        "items": [{"box": [[0, 2], [600, 3], [600, 9], [0, 9]], "text": "Grüße", "confidence": 1.0}],
        "count": 1,
        "model_id": "pp-ocrv6-small",
    }
    assert (message.mime, message.schema) == ("application/json;schema=ocr_v1", "ocr_v1")
    assert message.meta["count"] == "1"
    assert stand_in.options == {"use_cls": False, "text_score": 0.3, "box_thresh": 0.5, "unclip_ratio": 1.6}


async def test_a_blank_image_has_no_lines(stand_in: type[StandIn], service: Callable[[RapidOcr], OcrService]) -> None:
    message = await read(service(RapidOcr(1)), written(""))
    assert json.loads(message.data) == {"items": [], "count": 0, "model_id": "pp-ocrv6-small"}


async def test_strict_mode_knows_the_services_own_keys_only(
    stand_in: type[StandIn], service: Callable[[RapidOcr], OcrService]
) -> None:
    with pytest.raises(InvalidField, match="top_k"):
        await read(service(RapidOcr(1)), written("x"), top_k="3")


@pytest.mark.skipif(not is_installed(), reason="the extra mien[ocr] is not installed")
def test_the_real_rapidocr_reads_a_line() -> None:
    image = cv2.imdecode(np.frombuffer(written("INVOICE 2026"), np.uint8), cv2.IMREAD_COLOR)
    (line,) = RapidOcr(1).read(image, ReadOptions())  # type: ignore[arg-type]
    assert line.text.replace(" ", "") == "INVOICE2026"
    assert line.box[0, 0] < line.box[1, 0]
    assert line.confidence > 0.8
