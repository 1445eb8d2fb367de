"""The built-in services with the real models, on real photographs and texts."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import cv2
import numpy as np
import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import ImageFormatUnsupported, InvalidField, ModelError, NotFound
from mien.inference.contract import InferRequest, InferResult, Item
from mien.inference.sniff import media_type
from mien.settings import Settings
from mien.zoo.selection import optional_models
from testing.loaded import Loaded, load
from testing.tools import missing

SAME = [("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")]
TOLERANCE = 1e-5
"""Tolerance for results from batches of different sizes: float32 sums in another order."""


def built(settings: Settings) -> Loaded:
    try:
        return load(settings)
    except ModelError as error:
        missing(f"a model ({error.message})")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Loaded]:
    runtime = built(Settings())
    yield runtime
    asyncio.run(runtime.inference.close())


async def messages(
    runtime: Loaded,
    service: str,
    *payloads: bytes,
    task: str = "",
    stream: bool = False,
    mime: str | None = None,
    **metadata: str,
) -> list[InferResult]:
    items = tuple(Item(data, media_type(data, mime)) for data in payloads)
    request = InferRequest(items, task, metadata)
    return [
        await m.encoded()
        async for m in runtime.registry.resolve(service).infer(request, CancelScope(60), stream=stream)
    ]


async def ask(runtime: Loaded, service: str, *payloads: bytes, **options: Any) -> Any:
    return json.loads((await messages(runtime, service, *payloads, **options))[-1].data)


def vectors(answer: Any) -> np.ndarray:
    return np.array([part["vector"] for part in answer], np.float32)


# --- embedding


async def test_images_become_unit_vectors_and_portraits_differ_from_what_is_none(
    runtime: Loaded, photos: dict[str, bytes]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    stripes = np.repeat((np.arange(300) // 10 % 2 * 255).astype(np.uint8)[:, None], 300, 1)
    others = [bytes(cv2.imencode(".png", image)[1]) for image in (noise, stripes)]
    answer = await ask(runtime, "embedding", *photos.values(), *others)
    assert {(part["dim"], part["model_id"]) for part in answer} == {(1280, "efficientnet_lite0")}
    found = vectors(answer)
    assert found.shape == (8, 1280)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(8), abs=1e-5)
    alike = found @ found.T
    assert alike[:6, :6].mean() > alike[:6, 6:].mean() + 0.2
    assert alike[:6, 6:].max() < np.median(alike[:6, :6])


@pytest.mark.parametrize("task", ["", "lumen_clip_embed", "clip_text_embed", "semantic_text_embed"])
async def test_like_texts_are_closer_than_unlike_ones(runtime: Loaded, task: str) -> None:
    texts = (b"a cat", b"a kitten", b"stock market")
    cat, kitten, market = vectors(await ask(runtime, "embedding", *texts, task=task))
    assert cat.shape == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.6
    assert cat @ market < 0.3


async def test_a_single_embedding_is_exactly_embedding_v1(runtime: Loaded) -> None:
    (message,) = await messages(runtime, "embedding", "Grüße aus Köln".encode())
    assert (message.mime, message.schema) == ("application/json;schema=embedding_v1", "embedding_v1")
    payload = json.loads(message.data)
    assert sorted(payload) == ["dim", "model_id", "vector"]
    assert payload["dim"] == len(payload["vector"]) == 384
    assert payload["model_id"] == message.meta["lumen.model.id"] == "minilm"
    assert message.meta["dim"] == "384"


async def test_a_long_text_is_truncated_at_256_tokens_and_reported_so(runtime: Loaded) -> None:
    words = b"kettle " * 300
    (long,) = await messages(runtime, "embedding", words)
    (longer,) = await messages(runtime, "embedding", words * 400)
    assert (long.meta["tokens"], long.meta["truncated"]) == ("256", "true")
    assert longer.data == long.data
    (short,) = await messages(runtime, "embedding", b"kettle")
    assert (short.meta["tokens"], short.meta["truncated"]) == ("3", "false")


@pytest.mark.parametrize(
    ("data", "task", "mime", "said"),
    [
        (b"", "", None, "empty or blank"),
        (b" \n\t", "", None, "empty or blank"),
        (b"a cat", "clip_image_embed", None, "expects an image; got text/plain"),
        (b"\xff\xfe", "", None, "image or UTF-8 text"),
        (b"caf\xe9", "", "text/plain", "byte 3"),
        (b"{}", "", "application/json", "got application/json"),
    ],
)
async def test_payloads_of_the_wrong_kind_are_refused(
    runtime: Loaded, data: bytes, task: str, mime: str | None, said: str
) -> None:
    with pytest.raises(InvalidField, match=said):
        await messages(runtime, "embedding", data, task=task, mime=mime)


async def test_an_image_is_not_text_and_a_declared_type_takes_precedence(runtime: Loaded, photo: bytes) -> None:
    with pytest.raises(InvalidField, match="expects UTF-8 text; got image/jpeg"):
        await messages(runtime, "embedding", photo, task="semantic_text_embed")
    with pytest.raises(ImageFormatUnsupported):
        await messages(runtime, "embedding", b"a cat", mime="image/png")


async def test_results_do_not_depend_on_batching(photos: dict[str, bytes]) -> None:
    texts = [f"sentence number {n} about {word}".encode() for n, word in enumerate(["cats", "rain", "tea", "music"])]
    payloads = [*photos.values(), *texts]
    batching = built(Settings(max_batch=8, batch_wait_ms=30, workers=10, lanes=1))
    alone = built(Settings(max_batch=1))
    try:
        together = await ask(batching, "embedding", *payloads)
        one_by_one = [await ask(alone, "embedding", payload) for payload in payloads]
        for name in ("efficientnet_lite0", "minilm"):
            labels = {"model": name}
            runs = batching.metrics.registry.get_sample_value("mien_batch_size_count", labels)
            items = batching.metrics.registry.get_sample_value("mien_batch_size_sum", labels)
            assert runs is not None
            assert items is not None
            assert items > runs, f"no batch of {name} was shared"
    finally:
        await batching.inference.close()
        await alone.inference.close()
    for shared, single in zip(together, one_by_one, strict=True):
        assert shared["model_id"] == single["model_id"]
        assert np.abs(np.subtract(shared["vector"], single["vector"])).max() < TOLERANCE


# --- classification


async def test_a_suit_is_classified_as_one(runtime: Loaded, photos: dict[str, bytes]) -> None:
    (message,) = await messages(runtime, "classification", photos["impostor_1"], task="clip_classify")
    assert (message.mime, message.schema) == ("application/json;schema=labels_v1", "labels_v1")
    payload = json.loads(message.data)
    assert sorted(payload) == ["labels", "model_id"]
    labels = [label["label"] for label in payload["labels"]]
    scores = [label["score"] for label in payload["labels"]]
    assert len(labels) == 5
    assert labels[:2] == ["suit", "Windsor tie"]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1


async def test_top_k_is_honoured_and_clamped(runtime: Loaded, photo: bytes) -> None:
    assert len((await ask(runtime, "classification", photo, topk="1"))["labels"]) == 1
    everything = (await ask(runtime, "classification", photo, top_k="99999"))["labels"]
    assert len(everything) == 1000
    assert sum(label["score"] for label in everything) == pytest.approx(1, abs=1e-3)
    with pytest.raises(InvalidField, match="top_k"):
        await ask(runtime, "classification", photo, top_k="0")


async def test_texts_are_not_classified(runtime: Loaded) -> None:
    with pytest.raises(InvalidField, match="expected an image; got text/plain"):
        await ask(runtime, "classification", b"a cat")


# --- faces


@pytest.mark.parametrize(
    ("service", "task", "model"),
    [
        ("face_detection", "face_detector_v1", "yunet"),
        ("face_detection", "", "yunet"),
        ("face_recognition", "face_detect_and_embed", "fr_feature"),
        ("face_recognition", "face_embed", "fr_feature"),
    ],
)
async def test_faces_are_exactly_face_v1(runtime: Loaded, photo: bytes, service: str, task: str, model: str) -> None:
    (message,) = await messages(runtime, service, photo, task=task)
    assert (message.mime, message.schema) == ("application/json;schema=face_v1", "face_v1")
    assert message.meta.keys() == {"face_count", "processing_time_ms", "lumen.model.id"}
    assert (message.meta["face_count"], message.meta["lumen.model.id"]) == ("1", model)
    payload = json.loads(message.data)
    assert sorted(payload) == ["count", "faces", "model_id"]
    assert (payload["count"], payload["model_id"]) == (1, model)
    (face,) = payload["faces"]
    assert sorted(face) == ["bbox", "confidence", "embedding", "landmarks"]
    x1, y1, x2, y2 = face["bbox"]
    assert 0 <= x1 < x2
    assert 0 <= y1 < y2
    assert 0.6 <= face["confidence"] <= 1
    assert len(face["landmarks"]) == 10
    if service == "face_detection":
        assert face["embedding"] is None
    else:
        assert len(face["embedding"]) == 512
        assert np.linalg.norm(face["embedding"]) == pytest.approx(1, abs=1e-5)


async def test_boxes_are_cut_at_the_images_edges(runtime: Loaded, photo: bytes) -> None:
    image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    cut = image[60:180, 80:160]  # the face reaches over the left and the upper edge
    answer = await ask(runtime, "face_detection", bytes(cv2.imencode(".png", cut)[1]), task="face_detect")
    for face in answer["faces"]:
        assert min(face["bbox"]) >= 0
        assert max(face["bbox"][0::2]) <= 80
        assert max(face["bbox"][1::2]) <= 120
    assert answer["count"] >= 1


async def test_the_same_person_is_recognised(runtime: Loaded, photos: dict[str, bytes]) -> None:
    names = list(photos)
    answer = await ask(runtime, "face_recognition", *photos.values())
    found = {name: np.array(part["faces"][0]["embedding"]) for name, part in zip(names, answer, strict=True)}
    threshold = runtime.inference.facts.same_threshold(None)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert (found[a] @ found[b] > threshold) == ((a, b) in SAME), (a, b)


async def test_face_metadata_is_honoured(runtime: Loaded, collage: bytes) -> None:
    assert (await ask(runtime, "face_detection", collage))["count"] == 6
    assert (await ask(runtime, "face_detection", collage, max_faces="2"))["count"] == 2
    assert (await ask(runtime, "face_detection", collage, max_faces="-1", unknown="x"))["count"] == 6
    assert (await ask(runtime, "face_detection", collage, face_size_min="5000"))["count"] == 0
    assert (await ask(runtime, "face_detection", collage, detection_size="full"))["count"] == 6
    assert (await ask(runtime, "face_detection", collage, detection_size="64"))["count"] < 6
    assert (await ask(runtime, "face_detection", collage, detection_confidence_threshold="1"))["count"] == 0
    with pytest.raises(InvalidField, match="nms_threshold"):
        await ask(runtime, "face_detection", collage, nms_threshold="2")


async def test_each_face_is_streamed_as_it_is_ready(runtime: Loaded, collage: bytes) -> None:
    *parts, final = await messages(runtime, "face_recognition", collage, stream=True)
    assert [m.seq for m in (*parts, final)] == list(range(7))
    assert [m.meta["face"] for m in parts] == [str(i) for i in range(6)]
    assert {(m.meta["faces"], m.total, m.is_final, m.schema) for m in parts} == {("6", 0, False, "face_v1")}
    early = [json.loads(m.data) for m in parts]
    assert {part["count"] for part in early} == {1}
    whole = json.loads(final.data)
    assert final.is_final
    assert whole["count"] == 6
    assert [part["faces"][0] for part in early] == whole["faces"]
    assert whole["faces"] == (await ask(runtime, "face_recognition", collage))["faces"]


async def test_the_first_face_comes_before_the_last_one_is_embedded(runtime: Loaded, collage: bytes) -> None:
    def runs() -> float:
        labels = {"model": "fr_feature"}
        return runtime.metrics.registry.get_sample_value("mien_batch_size_sum", labels) or 0.0

    before = runs()
    request = InferRequest((Item(collage, "image/jpeg"),))
    call = CancelScope(60)
    service = runtime.registry.resolve("face_recognition")
    async with aclosing(service.infer(request, call, stream=True)) as stream:  # type: ignore[type-var]
        first = await anext(stream)
        assert not first.is_final
    assert call.cancelled
    await asyncio.sleep(0.3)
    assert runs() - before < 6, "closing the stream did not stop the work"


async def test_a_single_face_is_not_reported_twice(runtime: Loaded, photo: bytes) -> None:
    assert [m.is_final for m in await messages(runtime, "face_recognition", photo, stream=True)] == [True]


async def test_one_bad_image_of_several_fails_alone(runtime: Loaded, photo: bytes) -> None:
    sent = (photo, photo[:2000], b"no image", photo)
    *parts, final = await messages(runtime, "face_recognition", *sent, stream=True)
    first, cut, text, last = json.loads(final.data)
    assert cut["error"]["code"] == "image_truncated"
    assert text["error"]["code"] == "invalid_field"
    assert first == last
    assert first["count"] == 1
    assert sorted(m.meta["item"] for m in parts) == ["0", "1", "2", "3"]
    assert final.meta == {"items": "4", "failed": "2"}


# --- all of them


async def test_many_requests_at_once_get_their_own_answers(runtime: Loaded, photos: dict[str, bytes]) -> None:
    alone = [await ask(runtime, "embedding", data) for data in photos.values()]
    together = await asyncio.gather(*(ask(runtime, "embedding", data) for data in photos.values()))
    assert alone == together
    assert runtime.inference.admission.idle


async def test_every_task_and_alias_leads_to_one_service(runtime: Loaded) -> None:
    names = [
        (name.lower(), service.name, info.name)
        for service in runtime.registry.services()
        for info in service.tasks()
        for name in (info.name, *info.aliases)
    ]
    assert len({name for name, _, _ in names}) == len(names)
    for name, service, task in names:
        found, info = runtime.registry.for_task(name)
        assert (found.name, info.name) == (service, task)


async def test_a_task_of_another_service_is_refused_with_the_list(runtime: Loaded, photo: bytes) -> None:
    with pytest.raises(NotFound, match=r"face_detection has no task called 'clip_classify'.*face_detector_v1"):
        await ask(runtime, "face_detection", photo, task="clip_classify")


async def test_strict_mode_refuses_unknown_keys(photo: bytes) -> None:
    strict = built(Settings(strict_metadata=True))
    try:
        for service in ("face_detection", "face_recognition", "embedding", "classification"):
            with pytest.raises(InvalidField, match="treshold"):
                await ask(strict, service, photo, treshold="0.5")
            await ask(strict, service, photo, timeout_ms="1000")
    finally:
        await strict.inference.close()


async def test_without_models_their_tasks_are_absent(photo: bytes) -> None:
    settings = Settings(image_model=None, text_model=None)
    assert not {"efficientnet_lite0", "minilm", "imagenet_labels", "minilm_tokenizer"} & set(
        optional_models(settings.models)
    )
    bare = built(settings)
    words = built(Settings(image_model=None))
    try:
        assert [s.name for s in bare.registry.services() if s.name != "ocr"] == ["face_detection", "face_recognition"]
        assert [t.name for t in words.registry.resolve("embedding").tasks()] == ["embed", "semantic_text_embed"]
        with pytest.raises(InvalidField, match="MIEN_IMAGE_MODEL"):
            await ask(words, "embedding", photo)
        with pytest.raises(NotFound):
            words.registry.resolve("classification")
    finally:
        await bare.inference.close()
        await words.inference.close()


def test_a_model_of_the_wrong_kind_is_refused_by_the_settings_name() -> None:
    with pytest.raises(ModelError, match="MIEN_IMAGE_MODEL: yunet is of the family yunet"):
        load(Settings(image_model="yunet"))
