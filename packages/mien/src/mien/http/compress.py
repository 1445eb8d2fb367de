"""Compression of responses with gzip, for clients that ask for it."""

import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.engine.cancellation import CancelScope
from mien.engine.threads import ThreadPool
from mien.http.media import EVENT_STREAM, JSON, accepted_codings, bare

LEAST = 1024
"""Bytes below which compression saves nothing."""
LARGE = 16 * 1024
"""Bytes from which compression takes over half a millisecond: it is done in a thread."""
LEVEL = 1
"""Vectors in JSON and base64 shrink by half at any level; the default takes four times as long."""
TIMEOUT = 60.0
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Compress:
    """ASGI middleware: compresses whole JSON and text responses. Streams, files and images pass through."""

    def __init__(self, app: ASGIApp, threads: ThreadPool) -> None:
        self._app = app
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = accepted_codings(Headers(scope=scope)).get("gzip", 0.0) > 0 and scope["method"] != "HEAD"
        start: Message = {}

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_text(message):
                start = message  # held back until its body says how long it is
                return
            if start:
                head, start = start, {}
                body = message.get("body", b"")
                if not message.get("more_body") and len(body) >= LEAST:
                    headers = MutableHeaders(raw=head.setdefault("headers", []))
                    headers.add_vary_header("Accept-Encoding")
                    if wanted:
                        message = {**message, "body": await self._packed(body)}
                        _describe(headers, len(message["body"]))
                await send(head)
            await send(message)

        await self._app(scope, receive, send_compressed)

    async def _packed(self, body: bytes) -> bytes:
        if len(body) < LARGE:
            return _pack(body)
        return await self._threads.run(CancelScope(TIMEOUT), _pack, body)


def _is_text(start: Message) -> bool:
    """Whether the response is one that compression is for: text that is not a file with ranges, nor encoded already."""
    headers = Headers(raw=start.get("headers", []))
    kind = bare(headers.get("content-type", ""))
    is_text = kind == JSON or kind.endswith("+json") or kind.startswith("text/")
    return (
        is_text and kind != EVENT_STREAM and not {"content-encoding", "content-range", "accept-ranges"} & set(headers)
    )


def _describe(headers: MutableHeaders, size: int) -> None:
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(size)
    etag = headers.get("etag")
    if etag is not None and not etag.startswith("W/"):
        headers["ETag"] = f"W/{etag}"  # the same content in other bytes


def _pack(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, wbits=_GZIP_FORMAT)
    return packer.compress(body) + packer.flush()
