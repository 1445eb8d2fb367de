"""Routes of files: records, uploads to signed URLs, contents with ranges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Annotated, Any, NotRequired, TypedDict
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from msgspec import Meta
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mien.errors import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidField,
    NotFound,
    RangeNotSatisfiable,
    RequestError,
    StorageFull,
    UnsupportedMediaType,
)
from mien.http.body import chunks_to_disk
from mien.http.forms import FORM, FormLimits, read_form, text_fields
from mien.http.inferencesh import schema
from mien.http.inferencesh.context import RequestContext, TaskRoute, request_context
from mien.http.inferencesh.rendering import file_json
from mien.http.media import BYTES, JSON, content_type
from mien.http.openapi.operation import Answer, Binary, Form, describe
from mien.http.ranges import parse_range
from mien.http.untrusted import untrusted_headers
from mien.storage.blobs import Blob
from mien.storage.file_records import FileRecord, NewFile
from mien.storage.file_table import unknown

router = APIRouter(route_class=TaskRoute, tags=["Files"])
MAX_FILES = 100
BODY_BYTES = 1024 * 1024
FORM_BYTES = 64 * 1024  # the parts of a form beside its file
FORM_LIMITS = FormLimits(files=1, field_bytes=BODY_BYTES, memory_bytes=1024 * 1024)
READ_BLOCK = 1024 * 1024


class NewRecord(msgspec.Struct):
    """A file to be uploaded."""

    filename: str | None = None
    content_type: str | None = None
    size: Annotated[int | None, Meta(description="Bytes.")] = None
    path: Annotated[str | None, Meta(description="On the client's side; stored for the client only.")] = None
    public: Annotated[bool | None, Meta(description="Readable by anyone who knows its URL.")] = None


class NewRecords(TypedDict):
    """Files to be uploaded, each to the `upload_url` of its record."""

    files: list[NewRecord]


class UploadFields(TypedDict):
    """The fields of a form beside its file, which they describe."""

    filename: NotRequired[str]
    content_type: NotRequired[str]
    path: NotRequired[str]
    public: NotRequired[Annotated[str, Meta(description="`true`: readable by anyone who knows its URL.")]]


class FilesQuery(TypedDict):
    """The query of `GET /files`."""

    cursor: NotRequired[Annotated[str, Meta(description="`next_cursor` of the page before.")]]


class SignedQuery(TypedDict):
    """The query of a signed URL."""

    expires: NotRequired[str]
    signature: NotRequired[str]


class ContentHeaders(TypedDict):
    """Headers of `GET /files/{file_id}/{name}`."""

    range: NotRequired[Annotated[str, Meta(description="One range, such as `bytes=0-99`.")]]
    if_range: NotRequired[str]
    if_none_match: NotRequired[str]


@router.post("/files")
@describe(
    list[schema.File] | schema.File,
    body={JSON: NewRecords, FORM: Form(UploadFields, {"file": "The file."})},
    errors=(StorageFull,),
)
async def create_files(request: Request) -> Response:
    """JSON: a record for each of `files`, with the `upload_url` that its content is to be put to. Multipart: one file
    with its content, answered by its record."""
    ctx = request_context(request)
    kind = content_type(request)
    if kind == FORM:
        return await _uploaded_form(ctx)
    if kind not in ("", JSON):
        raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {JSON} or a form")
    with ExitStack() as admitted:
        body = await ctx.read_object(BODY_BYTES, admitted)
    given = body.get("files", [body] if body else [])
    if not isinstance(given, list) or not given:
        raise InvalidField("files: expected a list of at least one file")
    if len(given) > MAX_FILES:
        raise InvalidField(f"files: at most {MAX_FILES} in one request; got {len(given)}")
    most = ctx.parts.settings.files.file_max_bytes
    wanted = [_wanted(item, number, most) for number, item in enumerate(given)]
    links = ctx.parts.links
    records = [await ctx.parts.files.create(_new(item, ctx)) for item in wanted]
    return ctx.respond([file_json(record, links, ctx.base, upload=True) for record in records])


@router.get("/files")
@describe(schema.FilePage, query=FilesQuery, errors=(RequestError,))
async def list_files(request: Request) -> Response:
    """Records, newest first; `cursor` pages."""
    ctx = request_context(request)
    page = await ctx.parts.files.find(owner=ctx.reach, cursor=request.query_params.get("cursor"), limit=50)
    items = [file_json(record, ctx.parts.links, ctx.base) for record in page.files]
    shown: schema.FilePage = {"items": items, "next_cursor": page.cursor, "has_next": page.cursor is not None}
    return ctx.respond(shown)


@router.get("/files/{file_id}")
@describe(schema.File, errors=(NotFound,))
async def get_file(request: Request, file_id: str) -> Response:
    """The record, with an `upload_url` as long as there is no content."""
    ctx = request_context(request)
    record = await ctx.parts.files.get(file_id, ctx.reach)
    return ctx.respond(file_json(record, ctx.parts.links, ctx.base, upload=not record.ready))


@router.delete("/files/{file_id}")
@describe(schema.Deleted, errors=(NotFound,))
async def delete_file(request: Request, file_id: str) -> Response:
    """Remove the file."""
    ctx = request_context(request)
    await ctx.parts.files.delete(file_id, ctx.reach)
    deleted: schema.Deleted = {"id": file_id, "deleted": True}
    return ctx.respond(deleted)


@router.put("/files/{file_id}/{name:rest}")
@describe(
    schema.File,
    body={BYTES: Binary("The content, of the type that its Content-Type says.")},
    query=SignedQuery,
    scope=None,
    errors=(Forbidden, NotFound, Conflict, StorageFull),
)
async def put_content(request: Request, file_id: str, name: str) -> Response:
    """The content, for a record's `upload_url`. It is readable as soon as this has answered."""
    ctx = request_context(request, None)
    await _signed(ctx, "PUT", file_id)
    limit = ctx.parts.settings.files.file_max_bytes
    chunks = _counted(chunks_to_disk(request, limit), ctx, "in")
    record = await ctx.parts.files.write(file_id, chunks, request.headers.get("content-type"))
    return ctx.respond(file_json(record, ctx.parts.links, ctx.base))


@router.get("/files/{file_id}/{name:rest}")
@describe(
    {"*/*": Binary("The content.")},
    query=SignedQuery,
    headers=ContentHeaders,
    errors=(NotFound, RangeNotSatisfiable),
    others={
        206: Answer("The range.", {"*/*": Binary("That part of the content.")}),
        304: Answer("The content is the one that If-None-Match names."),
    },
)
async def get_content(request: Request, file_id: str, name: str) -> Response:
    """The content: public, by its signed URL, or with an API key. Ranges are honoured."""
    ctx = request_context(request, None)
    record = await _readable(ctx, file_id)
    if not record.ready:
        raise NotFound(f"the file {file_id[:40]!r} has not been uploaded yet")
    headers = content_headers(record)
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(None, 304, headers)
    unchanged = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    wanted = parse_range(request.headers.get("range"), record.size or 0) if unchanged else None
    start, stop = wanted or (0, record.size or 0)
    headers["Content-Length"] = str(stop - start)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{record.size}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(None, status, headers)
    content = await ctx.parts.files.open(file_id, start, stop)
    return StreamingResponse(_counted(_blocks(content), ctx, "out"), status, headers)


async def _readable(ctx: RequestContext, file_id: str) -> FileRecord:
    """The record, if the client may read its content. A client that may not does not learn whether there is one."""
    request = ctx.request
    if "signature" in request.query_params or "expires" in request.query_params:
        return await _signed(ctx, request.method, file_id)
    if request.headers.get("authorization") or request.headers.get("x-api-key"):
        reach = request_context(request).reach
        record = await ctx.parts.files.get(file_id)
        if record.public or reach in (None, record.owner):
            return record
        raise unknown(file_id)
    with suppress(NotFound):
        record = await ctx.parts.files.get(file_id)
        if record.public:
            return record
    raise Forbidden("reading this file requires its signed URL or an API key")


async def _signed(ctx: RequestContext, method: str, file_id: str) -> FileRecord:
    """The record of the file that the URL is signed for."""
    signer, query = ctx.parts.links.signer, ctx.request.query_params
    signer.check(method, file_id, query)
    record = await ctx.parts.files.get(file_id)
    if not signer.is_for(query, record.owner):
        raise unknown(file_id)
    return record


def content_headers(record: FileRecord) -> dict[str, str]:
    """Headers that keep a browser from running uploaded content as part of this origin."""
    ascii_name = record.filename.encode("ascii", "replace").decode().replace("\\", "_").replace('"', "_")
    quoted = quote(record.filename, safe="")
    charset = "; charset=utf-8" if record.content_type.startswith("text/") else ""
    return {
        **untrusted_headers(record.content_type + charset, f"filename=\"{ascii_name}\"; filename*=UTF-8''{quoted}"),
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Accept-Ranges": "bytes",
        "ETag": f'"{record.sha256}"',
        "Cache-Control": f"{'public' if record.public else 'private'}, max-age=86400, immutable",
    }


async def _uploaded_form(ctx: RequestContext) -> Response:
    request, limit = ctx.request, ctx.parts.settings.files.file_max_bytes
    async with ctx.parts.files.arriving(ctx.owner):
        pass  # refused before the body is read, if there is no room at all
    async with read_form(request, chunks_to_disk(request, limit + FORM_BYTES), FORM_LIMITS) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidField("file: expected an uploaded file")
        record = await _stored(ctx, upload, text_fields(form))
    return ctx.respond(file_json(record, ctx.parts.links, ctx.base))


async def _stored(ctx: RequestContext, upload: UploadFile, fields: dict[str, str]) -> FileRecord:
    new = NewFile(
        filename=fields.get("filename") or upload.filename,
        path=fields.get("path") or None,
        owner=ctx.owner,
        content_type=fields.get("content_type") or upload.content_type,
        public=fields.get("public", "").lower() in ("1", "true", "yes"),
        size=upload.size,
    )
    record = await ctx.parts.files.create(new)
    try:
        return await ctx.parts.files.write(record.id, _counted(_spooled(upload), ctx, "in"))
    except BaseException:
        await asyncio.shield(ctx.parts.files.delete(record.id))
        raise


def _wanted(item: Any, number: int, most: int) -> NewRecord:
    """One of the files asked for, checked before any record is made."""
    try:
        wanted = msgspec.convert(item, NewRecord)
    except msgspec.ValidationError as error:
        raise InvalidField(f"files[{number}]: {error}") from None
    if wanted.size is not None and wanted.size < 0:
        raise InvalidField(f"files[{number}].size: expected a number of bytes")
    if wanted.size is not None and wanted.size > most:
        raise BodyTooLarge(f"files[{number}].size: a file may have at most {most} bytes (MIEN_FILE_MAX_BYTES)")
    return wanted


def _new(wanted: NewRecord, ctx: RequestContext) -> NewFile:
    return NewFile(
        filename=wanted.filename or wanted.path,
        content_type=wanted.content_type,
        size=wanted.size or None,
        path=wanted.path,
        public=bool(wanted.public),
        owner=ctx.owner,
    )


async def _spooled(upload: UploadFile) -> AsyncIterator[bytes]:
    while block := await upload.read(READ_BLOCK):
        yield block


async def _blocks(content: Blob) -> AsyncIterator[bytes]:
    try:
        async for block in content:
            yield block
    finally:
        await content.aclose()


async def _counted(blocks: AsyncIterator[bytes], ctx: RequestContext, direction: str) -> AsyncIterator[bytes]:
    counter = ctx.parts.metrics.file_bytes.labels(direction)
    async for block in blocks:
        counter.inc(len(block))
        yield block


def _matches(header: str | None, etag: str) -> bool:
    return header is not None and (header.strip() == "*" or etag in [tag.strip() for tag in header.split(",")])
