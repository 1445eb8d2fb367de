"""Which service a gRPC request means: by its task, in any case, with the service as a hint."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import NotFound, RequestError, Unavailable
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.choice import choose


class Named:
    def __init__(self, name: str, *tasks: str) -> None:
        self.name = name
        self._tasks = [TaskInfo(task, (), (), aliases=(f"old_{task}",)) for task in tasks]

    def tasks(self) -> Sequence[TaskInfo]:
        return self._tasks

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        yield InferResult(is_final=True)


SERVICES = [Named("face_detection", "face_detect"), Named("embedding", "embed", "semantic_text_embed")]


@pytest.mark.parametrize(
    ("task", "hint", "service", "name", "stream"),
    [
        ("face_detect", "", "face_detection", "face_detect", False),
        ("Face_Detect", "FACE", "face_detection", "Face_Detect", False),
        ("OLD_FACE_DETECT_STREAM", "", "face_detection", "OLD_FACE_DETECT", True),
        ("semantic_text_embed", "clip", "embedding", "semantic_text_embed", False),
        ("semantic_text_embed", "somebody", "embedding", "semantic_text_embed", False),
        ("embed_stream", "mien", "embedding", "embed", True),
        ("", "Embedding", "embedding", "", False),
        ("", "embedding_stream", "embedding", "", True),
        ("", "siglip", "embedding", "", False),
        ("face_detection_stream", "", "face_detection", "", True),
    ],
)
def test_task_and_hint_lead_to_a_service(task: str, hint: str, service: str, name: str, stream: bool) -> None:
    choice = choose(SERVICES, task, hint)
    assert (choice.service.name, choice.task, choice.stream) == (service, name, stream)


def test_what_leads_to_none_is_named() -> None:
    with pytest.raises(NotFound, match="no service has a task called 'nope'; there are: embed, semantic_text_embed"):
        choose(SERVICES, "nope", "nobody")
    with pytest.raises(NotFound, match="no service is called 'nobody'; there are: embedding, face_detection"):
        choose(SERVICES, "", "nobody")
    with pytest.raises(NotFound, match="embedding has no task called 'face_detect', the service face_detection has it"):
        choose(SERVICES, "face_detect", "embedding")
    with pytest.raises(RequestError, match="names no task"):
        choose(SERVICES, "", "")
    with pytest.raises(Unavailable, match="no services yet"):
        choose([], "embed", "")
