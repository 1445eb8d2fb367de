"""`GET /v1/nodes/watch`: a WebSocket that sends a snapshot of the nodes now and at each change."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from mien.errors import MienError, UpgradeRequired
from mien.http.context import authorised
from mien.http.errors import error_response
from mien.runtime import Runtime

PATH = "/v1/nodes/watch"
GOING_AWAY = 1001

router = APIRouter(tags=["Nodes"])


@router.get(PATH, response_model=None, responses={426: {"description": "Connect to it as a WebSocket."}})
async def watch_without_upgrade(request: Request) -> Response:
    """A WebSocket: sends `{"type": "snapshot", "nodes": [...]}` at once and at each change."""
    error = UpgradeRequired("this route speaks WebSocket: connect to it as one")
    response = error_response(error, request.state.request_id)
    response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return response


@router.websocket(PATH)
async def watch(socket: WebSocket) -> None:
    """Snapshots until either side goes away."""
    try:
        runtime = authorised(socket)
    except MienError as error:
        await socket.send_denial_response(error_response(error, secrets.token_hex(8)))
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, runtime))
    try:
        while True:  # whatever the client sends is ignored; its goodbye ends the wait
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        pass
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(socket: WebSocket, runtime: Runtime) -> None:
    async for nodes in snapshots(runtime):
        await socket.send_text(orjson.dumps({"type": "snapshot", "nodes": nodes}).decode())
    await socket.close(GOING_AWAY)


async def snapshots(runtime: Runtime) -> AsyncIterator[list[dict[str, Any]]]:
    """The nodes behind this server now, and again after each change."""
    if runtime.nodes is None:
        yield []
        return
    async for snapshot in runtime.nodes.changes():
        yield snapshot["nodes"]
