"""Routes of apps: what is deployed, and deploying."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mien.apps.archive import unpack
from mien.apps.record import Deployed
from mien.apps.reference import AppRef, parse_ref
from mien.errors import InternalError, MienError
from mien.http.body import chunks_to_disk
from mien.http.errors import error_body
from mien.http.inferencesh.door import Caller, TaskRoute, caller
from mien.http.inferencesh.shapes import app_detail, app_shape, builtin_shape
from mien.http.media import NDJSON, NDJSON_TYPES, accepts
from mien.tasks.builtin import BUILTIN

log = structlog.get_logger()
router = APIRouter(route_class=TaskRoute, tags=["Apps"])
ARCHIVE = {"requestBody": {"required": True, "content": {"application/zip": {}, "application/x-tar": {}}}}


@router.get("/apps")
async def list_apps(request: Request) -> Response:
    """Every app with its latest version, the built-in ones first."""
    asked = caller(request)
    deployed = await asyncio.to_thread(asked.parts.apps.all)
    builtin = [builtin_shape(app) for app in BUILTIN.values()]
    return asked.answer([*builtin, *(app_shape(found.version, latest=True) for found in deployed)])


@router.post("/apps", openapi_extra=ARCHIVE)
async def deploy_app(request: Request) -> Response:
    """Deploy the zip or tar file of an app's folder (scope `admin`: this runs its code). `?name=namespace/name` names
    it. With an Accept of NDJSON the build's log comes as it is written, the result or an error last."""
    asked = caller(request, "admin")
    name = request.query_params.get("name") or None
    async with _uploaded(asked) as (folder, keep):
        if not accepts(request.headers, *NDJSON_TYPES):
            return asked.answer(await _deploy(asked, folder, name, lambda line: None))
        keep()
    return StreamingResponse(_told(asked, folder, name), media_type=NDJSON)


@router.get("/apps/{reference:path}")
async def get_app(request: Request, reference: str) -> Response:
    """One version with its schemas, and the other versions of its app."""
    asked = caller(request)
    ref = parse_ref(reference, asked.parts.settings.apps.app_namespace)
    if ref.app in BUILTIN and ref.version is None:
        return asked.answer(builtin_shape(BUILTIN[ref.app], detail=True))
    return asked.answer(await asyncio.to_thread(_detail, asked, ref))


@router.post("/apps/{reference:path}/rollback")
async def rollback_app(request: Request, reference: str) -> Response:
    """Go back to the version before the latest, or to the one that is named (scope `admin`)."""
    asked = caller(request, "admin")
    ref = parse_ref(reference, asked.parts.settings.apps.app_namespace)
    found = await asyncio.to_thread(asked.parts.apps.rollback, ref)
    await asked.parts.services.refresh()
    return asked.answer(app_shape(found.version, latest=True))


@router.delete("/apps/{reference:path}")
async def remove_app(request: Request, reference: str) -> Response:
    """Remove one version, or without one the whole app (scope `admin`)."""
    asked = caller(request, "admin")
    ref = parse_ref(reference, asked.parts.settings.apps.app_namespace)
    count = await asyncio.to_thread(asked.parts.apps.remove, ref)
    await asked.parts.services.refresh()
    return asked.answer({"id": ref.app, "removed": count})


def _detail(asked: Caller, ref: AppRef) -> dict[str, Any]:
    apps = asked.parts.apps
    found = apps.resolve(ref)
    app = AppRef(ref.namespace, ref.name)
    return app_detail(found.version, apps.versions(app), apps.resolve(app).version.version)


async def _deploy(asked: Caller, folder: Path, name: str | None, tell: Any) -> dict[str, Any]:
    deployed: Deployed = await asked.parts.deployer.deploy(folder, name, tell)
    await asked.parts.services.refresh()
    return await asyncio.to_thread(
        _detail, asked, AppRef(deployed.version.namespace, deployed.version.name, deployed.version.version)
    )


async def _told(asked: Caller, folder: Path, name: str | None) -> AsyncIterator[bytes]:
    """The log of a deployment, line by line, and its end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def work() -> dict[str, Any]:
        try:
            return {"success": True, "data": await _deploy(asked, folder, name, lines.put_nowait)}
        except MienError as error:
            return error_body(error, asked.request.state.request_id)
        except Exception as error:
            log.error("a deployment failed", exc_info=error)
            return error_body(
                InternalError("the server failed; its log has the details"), asked.request.state.request_id
            )
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
async def _uploaded(asked: Caller) -> AsyncIterator[tuple[Path, Any]]:
    """The app's folder, unpacked; removed afterwards unless `keep` was called."""
    settings = asked.parts.settings
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mien-deploy-"))
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        archive = place / "archive"
        with archive.open("xb") as file:
            async for chunk in chunks_to_disk(asked.request, settings.apps.app_max_bytes):
                await asyncio.to_thread(file.write, chunk)
        folder = await asyncio.to_thread(
            unpack, archive, place / "app", max_files=settings.apps.app_max_files, max_bytes=settings.apps.app_max_bytes
        )
        archive.unlink()
        yield folder, keep
    finally:
        if not kept:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
