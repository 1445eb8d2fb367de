"""Models of a running server: which there are, loading and unloading."""

from typing import Annotated, Any, Literal, TypedDict

from fastapi import APIRouter
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse

from mien.errors import Conflict, ModelError, ModelInUse, ModelUnavailable, ModelUnknown, NotFound, RequestError
from mien.http.context import authorised
from mien.http.openapi.operation import Enveloped, describe
from mien.http.route import Route
from mien.inference.model_manager import Change, ModelState

router = APIRouter(route_class=Route, tags=["Models"])


class Answer(TypedDict):
    """What is around every answer of these routes."""

    success: bool
    data: Any


class ServedModel(TypedDict):
    """A model that this server uses, or several that are loaded together."""

    name: Annotated[str, Meta(description="As results name it in `model_id`.")]
    manifests: Annotated[list[str], Meta(description="What it is made of: names of `mien models list`.")]
    purpose: Literal[
        "face_detection", "face_recognition", "age_gender", "mask", "pose", "landmarks_68", "image", "text", "clip"
    ]
    state: Annotated[
        Literal["loaded", "absent", "unloaded"],
        Meta(
            description="`absent`: a request that needs it acquires it. `unloaded`: by an operator; requests that "
            "need it are refused until it is loaded again."
        ),
    ]
    required: Annotated[bool, Meta(description="Whether it stays as long as the server runs.")]


class ServedModels(TypedDict):
    """The models of this server."""

    models: list[ServedModel]


class ChangedModel(TypedDict):
    """What became of a model."""

    model: ServedModel
    changed: Annotated[bool, Meta(description="False: it was so already.")]


@router.get("/models")
@describe(Enveloped(Answer, ServedModels))
async def list_models(request: Request) -> JSONResponse:
    """The models of this server, and which of them are loaded."""
    data: ServedModels = {"models": [_served(state) for state in authorised(request).manager.states()]}
    return _answer(data)


@router.post("/models/{name}/load")
@describe(
    Enveloped(Answer, ChangedModel),
    scope="admin",
    errors=(RequestError, ModelUnknown, Conflict, ModelUnavailable, ModelError),
)
async def load_model(request: Request, name: str) -> JSONResponse:
    """Load a model, or a set such as `clip`, from the files on the server's machine (scope `admin`). It replaces the
    one with the same purpose. If it cannot be loaded, the error says why, and nothing has changed."""
    return _answer(_changed(await authorised(request, "admin").manager.load(name)))


@router.post("/models/{name}/unload")
@describe(Enveloped(Answer, ChangedModel), scope="admin", errors=(RequestError, NotFound, ModelUnknown, ModelInUse))
async def unload_model(request: Request, name: str) -> JSONResponse:
    """Unload a model (scope `admin`): its tasks are no longer offered, requests that run finish, then its memory is
    free."""
    return _answer(_changed(await authorised(request, "admin").manager.unload(name)))


def _answer(data: Any) -> JSONResponse:
    answer: Answer = {"success": True, "data": data}
    return JSONResponse(answer)


def _changed(change: Change) -> ChangedModel:
    return {"model": _served(change.model), "changed": change.changed}


def _served(state: ModelState) -> ServedModel:
    return {
        "name": state.name,
        "manifests": list(state.manifests),
        "purpose": state.purpose,
        "state": state.state,
        "required": state.required,
    }
