"""Routes of apps: what is deployed, and deploying."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import orjson
import structlog
from fastapi import APIRouter
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mien.apps.archive import unpack
from mien.apps.record import Deployed
from mien.apps.reference import AppRef, parse_ref
from mien.errors import AppInvalid, AppUnknown, InternalError, MienError, RequestError
from mien.http.body import chunks_to_disk
from mien.http.errors import ErrorBody, error_body
from mien.http.inferencesh import schema
from mien.http.inferencesh.context import RequestContext, TaskRoute, request_context
from mien.http.inferencesh.rendering import app_detail_json, app_json, builtin_detail_json, builtin_json
from mien.http.media import BYTES, JSON, NDJSON, NDJSON_TYPES, accepts
from mien.http.openapi.operation import Binary, Stream, describe
from mien.tasks.builtin import BUILTIN

log = structlog.get_logger()
router = APIRouter(route_class=TaskRoute, tags=["Apps"])
ARCHIVE = Binary("A zip or tar file, compressed or not, of an app's folder.")


class DeployQuery(TypedDict):
    """The query of `POST /apps`."""

    name: NotRequired[Annotated[str, Meta(description="`namespace/name` of the app, instead of its folder's own.")]]


@router.get("/apps")
@describe(list[schema.App])
async def list_apps(request: Request) -> Response:
    """Every app with its latest version, the built-in ones first."""
    ctx = request_context(request)
    deployed = await asyncio.to_thread(ctx.parts.apps.all)
    builtin = [builtin_json(app) for app in BUILTIN.values()]
    return ctx.respond([*builtin, *(app_json(found.version, latest=True) for found in deployed)])


@router.post("/apps")
@describe(
    {JSON: schema.AppDetail, NDJSON: Stream(schema.BuildLine | schema.BuildEnd | ErrorBody, "The build's log.")},
    body={"application/zip": ARCHIVE, "application/x-tar": ARCHIVE, BYTES: ARCHIVE},
    query=DeployQuery,
    scope="admin",
    errors=(AppInvalid,),
)
async def deploy_app(request: Request) -> Response:
    """Deploy the zip or tar file of an app's folder (scope `admin`: this runs its code). `?name=namespace/name` names
    it. With an Accept of NDJSON the build's log comes as it is written, the result or an error last."""
    ctx = request_context(request, "admin")
    name = request.query_params.get("name") or None
    async with _uploaded(ctx) as (folder, keep):
        if not accepts(request.headers, *NDJSON_TYPES):
            return ctx.respond(await _deploy(ctx, folder, name, lambda line: None))
        keep()
    return StreamingResponse(_deploy_log(ctx, folder, name), media_type=NDJSON)


@router.get("/apps/{reference:rest}")
@describe(schema.AppDetail, errors=(RequestError, AppUnknown))
async def get_app(request: Request, reference: str) -> Response:
    """One version with its schemas, and the other versions of its app."""
    ctx = request_context(request)
    ref = parse_ref(reference, ctx.parts.settings.apps.app_namespace)
    if ref.app in BUILTIN and ref.version is None:
        return ctx.respond(builtin_detail_json(BUILTIN[ref.app]))
    return ctx.respond(await asyncio.to_thread(_detail, ctx, ref))


@router.post("/apps/{reference:rest}/rollback")
@describe(schema.App, scope="admin", errors=(RequestError, AppUnknown))
async def rollback_app(request: Request, reference: str) -> Response:
    """Go back to the version before the latest, or to the one that is named (scope `admin`)."""
    ctx = request_context(request, "admin")
    ref = parse_ref(reference, ctx.parts.settings.apps.app_namespace)
    found = await asyncio.to_thread(ctx.parts.apps.rollback, ref)
    await ctx.parts.services.refresh()
    return ctx.respond(app_json(found.version, latest=True))


@router.delete("/apps/{reference:rest}")
@describe(schema.AppRemoved, scope="admin", errors=(RequestError, AppUnknown))
async def remove_app(request: Request, reference: str) -> Response:
    """Remove one version, or without one the whole app (scope `admin`)."""
    ctx = request_context(request, "admin")
    ref = parse_ref(reference, ctx.parts.settings.apps.app_namespace)
    count = await asyncio.to_thread(ctx.parts.apps.remove, ref)
    await ctx.parts.services.refresh()
    removed: schema.AppRemoved = {"id": ref.app, "removed": count}
    return ctx.respond(removed)


def _detail(ctx: RequestContext, ref: AppRef) -> schema.AppDetail:
    apps = ctx.parts.apps
    found = apps.resolve(ref)
    app = AppRef(ref.namespace, ref.name)
    return app_detail_json(found.version, apps.versions(app), apps.resolve(app).version.version)


async def _deploy(ctx: RequestContext, folder: Path, name: str | None, tell: Any) -> schema.AppDetail:
    deployed: Deployed = await ctx.parts.deployer.deploy(folder, name, tell)
    await ctx.parts.services.refresh()
    return await asyncio.to_thread(
        _detail, ctx, AppRef(deployed.version.namespace, deployed.version.name, deployed.version.version)
    )


async def _deploy_log(ctx: RequestContext, folder: Path, name: str | None) -> AsyncIterator[bytes]:
    """The log of a deployment, line by line, then its result or error."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def work() -> schema.BuildEnd | ErrorBody:
        try:
            return {"success": True, "data": await _deploy(ctx, folder, name, lines.put_nowait)}
        except MienError as error:
            return error_body(error, ctx.request.state.request_id)
        except Exception as error:
            log.error("deployment failed", exc_info=error)
            return error_body(InternalError("the server failed; its log has the details"), ctx.request.state.request_id)
        finally:
            lines.put_nowait(None)

    task = asyncio.create_task(work())
    try:
        while (line := await lines.get()) is not None:
            yield orjson.dumps({"log": line}) + b"\n"
        yield orjson.dumps(await task) + b"\n"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, folder.parent, ignore_errors=True)


@asynccontextmanager
async def _uploaded(ctx: RequestContext) -> AsyncIterator[tuple[Path, Any]]:
    """The uploaded folder, unpacked, and `keep`: unless that is called, the block removes the folder at its end."""
    settings = ctx.parts.settings
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mien-deploy-"))
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        archive = place / "archive"
        with archive.open("xb") as file:
            async for chunk in chunks_to_disk(ctx.request, settings.apps.app_max_bytes):
                await asyncio.to_thread(file.write, chunk)
        folder = await asyncio.to_thread(
            unpack, archive, place / "app", max_files=settings.apps.app_max_files, max_bytes=settings.apps.app_max_bytes
        )
        archive.unlink()
        yield folder, keep
    finally:
        if not kept:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
