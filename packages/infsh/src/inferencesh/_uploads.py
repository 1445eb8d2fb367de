"""Flows that upload contents: announced together, sent concurrently, each content once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from inferencesh._content import DEFAULT_TYPE, Content
from inferencesh._messages import JSON, Call, Request, Response, encode
from inferencesh._responses import parse_data
from inferencesh._retry import with_retries
from inferencesh._settings import Settings
from inferencesh._steps import Gather, RunBlocking, Steps
from inferencesh._walk import Finder, Rules, fill
from inferencesh.errors import APIError, UploadError

ANNOUNCED = 100  # files in one request


def prepared(settings: Settings, params: Mapping[str, Any], rules: Rules) -> Steps[dict[str, Any]]:
    """The body of a task with the URLs of its files, after uploading them."""
    finder = Finder()
    body = dict(params)
    try:
        body["input"] = finder.tree(params.get("input"), rules, "input")
        if params.get("setup") is not None:
            body["setup"] = finder.tree(params["setup"], Rules(only_files=True), "setup")
        if not finder.contents:
            return body
        uris = yield from _upload_each_once(settings, finder.contents)
    finally:
        finder.close()
    return {**body, **{name: fill(body[name], uris) for name in ("input", "setup") if name in body}}


def upload_one(settings: Settings, content: Content) -> Steps[dict[str, Any]]:
    """Uploads one content; returns the server's record."""
    try:
        (record,) = yield from _upload(settings, [content])
    finally:
        content.close()
    return record


def _upload_each_once(settings: Settings, contents: Sequence[Content]) -> Steps[list[str]]:
    """The URL of each content; equal ones share an upload."""
    unique, places = yield from _distinct(contents)
    records = yield from _upload(settings, unique)
    return [str(records[place]["uri"]) for place in places]


def _distinct(contents: Sequence[Content]) -> Steps[tuple[list[Content], list[int]]]:
    """The distinct contents, and for each given one its index among them."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for number, content in enumerate(contents):
        sizes[content.size].append(number)
    rivals = [number for numbers in sizes.values() if len(numbers) > 1 for number in numbers]
    digests = (
        dict(zip(rivals, (yield RunBlocking(lambda: [contents[number].digest() for number in rivals])), strict=True))
        if rivals
        else {}
    )
    return grouped(contents, digests)


def grouped(contents: Sequence[Content], digests: Mapping[int, bytes]) -> tuple[list[Content], list[int]]:
    """Equal bytes are one content, unless callers declare different types."""
    unique: list[Content] = []
    places: dict[int, int] = {}
    found: dict[Any, list[int]] = defaultdict(list)
    named_first = sorted(range(len(contents)), key=lambda number: contents[number].content_type is None)
    for number in named_first:
        content = contents[number]
        like = found[digests.get(number, number)]
        place = next((p for p in like if content.content_type in (None, unique[p].content_type)), None)
        if place is None:
            place = len(unique)
            unique.append(content)
            like.append(place)
        places[number] = place
    return unique, [places[number] for number in range(len(contents))]


def _upload(settings: Settings, contents: Sequence[Content]) -> Steps[list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    for start in range(0, len(contents), ANNOUNCED):
        some = contents[start : start + ANNOUNCED]
        announced = yield from with_retries(announce(settings, some), settings.retries, settings.timeout)
        sends = [_send(settings, record, content) for record, content in zip(announced, some, strict=True)]
        if len(sends) == 1:
            records.append((yield from sends[0]))
        else:
            records += yield Gather(sends, settings.upload_concurrency)
    return records


def announce(settings: Settings, contents: Sequence[Content]) -> Call[list[dict[str, Any]]]:
    """The request that creates records for files to be uploaded."""
    files = [
        {
            "uri": "",
            "filename": content.filename,
            "content_type": content.content_type or DEFAULT_TYPE,
            "path": content.path,
            "size": content.size,
            "public": content.public,
        }
        for content in contents
    ]
    headers = {**settings.headers, "Content-Type": JSON, "Accept": JSON}

    def parse(response: Response) -> list[dict[str, Any]]:
        records = parse_data(response)
        if isinstance(records, dict):
            records = [records]
        if not isinstance(records, list) or len(records) != len(files):
            raise UploadError(f"the server has no record for each of {len(files)} files: {str(records)[:200]}")
        for record in records:
            if not isinstance(record, dict) or not record.get("upload_url") or not record.get("uri"):
                raise UploadError(f"the server's record of a file lacks uri or upload_url: {str(record)[:200]}")
        return records

    return Call(Request("POST", settings.url("/files"), headers, encode({"files": files})), parse)


def _send(settings: Settings, record: dict[str, Any], content: Content) -> Steps[dict[str, Any]]:
    try:
        stored = yield from with_retries(put(settings, record, content), settings.retries, settings.timeout)
    except APIError as error:
        raise UploadError(f"{content.filename or 'the file'} was rejected: {error}") from error
    return {**record, **stored}


def put(settings: Settings, record: Mapping[str, Any], content: Content) -> Call[dict[str, Any]]:
    """The request that uploads a content. Its signed URL is the authorisation: no key is sent."""
    headers = {
        "User-Agent": settings.headers["User-Agent"],
        "Content-Type": content.content_type or DEFAULT_TYPE,
        "Content-Length": str(content.size),
    }
    body = content.source if isinstance(content.source, bytes) else content

    def parse(response: Response) -> dict[str, Any]:
        if response.status < 300 and response.media_type != JSON:  # object stores return nothing, or XML
            return {}
        stored = parse_data(response)
        return stored if isinstance(stored, dict) else {}

    return Call(Request("PUT", settings.url(str(record["upload_url"])), headers, body), parse)
