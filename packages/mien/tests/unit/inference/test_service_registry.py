"""Services are found by name and by task; local ones take precedence unless configured otherwise."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import NotFound
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.registry import ServiceRegistry, task_of


def task(name: str, *aliases: str) -> TaskInfo:
    return TaskInfo(name, ("text/plain",), ("text/plain",), aliases=aliases)


@dataclass
class Named:
    """A service that only has a name and tasks."""

    name: str
    offered: Sequence[TaskInfo] = field(default_factory=list)

    def tasks(self) -> Sequence[TaskInfo]:
        return self.offered

    def infer(self, request: InferRequest, call: CancelScope, *, stream: bool) -> AsyncIterator[InferResult]:
        raise NotImplementedError


FACES = Named("face_detection", [task("face_detect", "face_detector_v1"), task("face_blur")])
WORDS = Named("embedding", [task("embed", "lumen_clip_embed")])


@pytest.fixture
def registry() -> ServiceRegistry:
    registry = ServiceRegistry()
    registry.add(FACES)
    registry.add(WORDS)
    return registry


@pytest.mark.parametrize("name", ["face_detection", "  FACE_Detection\n"])
def test_case_and_blanks_do_not_matter(registry: ServiceRegistry, name: str) -> None:
    assert registry.resolve(name) is FACES


def test_an_unknown_service_is_refused_with_the_list(registry: ServiceRegistry) -> None:
    with pytest.raises(NotFound, match=r"'nope'; there are: embedding, face_detection"):
        registry.resolve("nope")


@pytest.mark.parametrize("name", ["face_detect", "Face_Detector_V1", " face_blur "])
def test_a_task_finds_its_service(registry: ServiceRegistry, name: str) -> None:
    service, info = registry.for_task(name)
    assert service is FACES
    assert info == task_of(FACES, name) == registry.task_of(FACES, name)


def test_an_unknown_task_is_refused_with_the_list(registry: ServiceRegistry) -> None:
    with pytest.raises(NotFound, match="embed, face_detect, face_blur"):
        registry.for_task("nope")
    with pytest.raises(NotFound, match="face_detect = face_detector_v1; face_blur"):
        task_of(FACES, "nope")


@pytest.mark.parametrize("name", ["", "  "])
def test_no_task_is_the_first_one(name: str) -> None:
    assert task_of(FACES, name).name == "face_detect"


def test_a_service_without_tasks_is_reported() -> None:
    with pytest.raises(NotFound, match="no task at the moment"):
        task_of(Named("empty"), "")


def test_an_empty_registry_is_reported() -> None:
    with pytest.raises(NotFound, match="there are: none"):
        ServiceRegistry().resolve("x")
    with pytest.raises(NotFound, match="there are: none"):
        ServiceRegistry().for_task("")


@pytest.mark.parametrize("prefer_remote", [False, True])
def test_of_two_services_with_the_same_name_and_task_one_takes_precedence(prefer_remote: bool) -> None:
    local, remote = Named("Embedding", [task("a", "b")]), Named("embedding", [task("b", "a")])
    registry = ServiceRegistry(prefer_remote=prefer_remote)
    registry.add(remote, remote=True)
    registry.add(local)
    wins = remote if prefer_remote else local
    assert registry.resolve("EMBEDDING") is wins
    assert registry.for_task("a")[0] is wins
    assert registry.for_task("b")[0] is wins
    assert registry.services() == [wins]
    registry.remove("embedding", remote=prefer_remote)
    assert registry.resolve("embedding") is (local if prefer_remote else remote)
    registry.remove("embedding", remote=not prefer_remote)
    registry.remove("embedding")
    assert registry.services() == []


def test_a_tasks_own_name_takes_precedence_over_an_alias(registry: ServiceRegistry) -> None:
    registry.add(Named("aaa", [task("first", "face_detect")]))
    assert registry.for_task("face_detect")[0] is FACES


def test_adding_again_replaces(registry: ServiceRegistry) -> None:
    newer = Named("embedding", [task("embed")])
    registry.add(newer)
    assert registry.resolve("embedding") is newer
    assert len(registry.services()) == 2


# --- names that other nodes use

HERE = ServiceRegistry()
for _service in (
    Named("embedding", [task("embed"), task("semantic_text_embed", "clip_text_embed")]),
    Named("classification", [task("image_classify", "clip_classify", "bioclip_classify")]),
    Named("face_detection", [task("face_detect")]),
    Named("face_recognition", [task("face_recognition", "face_detect_and_embed")]),
    Named("ocr", [task("ocr")]),
):
    HERE.add(_service)


@pytest.mark.parametrize(
    ("name", "task_name", "service", "found"),
    [
        ("clip", "semantic_text_embed", "embedding", "semantic_text_embed"),
        ("lumen_clip", "clip_text_embed", "embedding", "semantic_text_embed"),
        ("CLIP", "Clip_Classify", "classification", "image_classify"),
        ("siglip", "", "embedding", "embed"),
        ("bioclip", "bioclip_classify", "classification", "image_classify"),
        ("lumen_bioclip", "", "classification", "image_classify"),
        ("face", "face_recognition", "face_recognition", "face_recognition"),
        ("face", "face_detect", "face_detection", "face_detect"),
        ("insightface", "", "face_recognition", "face_recognition"),
        ("face-general", "face_detect_and_embed", "face_recognition", "face_recognition"),
        ("ppocr", "ocr", "ocr", "ocr"),
        ("lumen_ocr", "", "ocr", "ocr"),
    ],
)
def test_services_answer_to_the_names_of_other_nodes(name: str, task_name: str, service: str, found: str) -> None:
    chosen, info = HERE.pick(name, task_name)
    assert (chosen.name, info.name) == (service, found)


def test_a_service_of_that_very_name_comes_first() -> None:
    registry = ServiceRegistry()
    registry.add(Named("embedding", [task("embed")]))
    registry.add(Named("clip", [task("embed"), task("clip_only")]), remote=True)
    assert registry.pick("clip", "embed")[0].name == "clip"
    assert registry.pick("embedding", "embed")[0].name == "embedding"
    assert registry.pick("embedding", "clip_only")[0].name == "clip"  # the same kind of service, on a node


@pytest.mark.parametrize("name", ["vlm-fast", "nobody knows"])
def test_an_unknown_name_matters_unless_it_is_a_hint(name: str) -> None:
    with pytest.raises(NotFound, match="there are: classification, embedding, face_detection, face_recognition, ocr"):
        HERE.pick(name, "face_detect")
    assert HERE.pick(name, "face_detect", is_hint=True)[0].name == "face_detection"
    with pytest.raises(NotFound, match="no service is called"):
        HERE.pick(name, "", is_hint=True)
    with pytest.raises(NotFound, match=r"no service has a task called 'nope'; there are: image_classify, embed"):
        HERE.pick(name, "nope", is_hint=True)


@pytest.mark.parametrize("name", ["embedding", "clip", "siglip"])
def test_a_task_of_another_service_is_an_error_that_says_which_has_it(name: str) -> None:
    words = "embedding has no task called 'face_detect', the service face_detection has it; there are: "
    for is_hint in (False, True):
        with pytest.raises(NotFound, match=words):
            HERE.pick(name, "face_detect", is_hint=is_hint)
