"""Multipart forms: split as they arrive, however they are cut, and bounded."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from starlette.datastructures import UploadFile
from starlette.requests import Request

from mien.errors import BodyTooLarge, RequestError
from mien.http.forms import MAX_FIELDS, MAX_OPTIONS, MAX_PREAMBLE_BYTES, PIECE, FormLimits, read_form

LIMITS = FormLimits(files=3, field_bytes=1000, memory_bytes=10_000)
FIELD = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE = b'--B\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\nContent-Type: image/png\r\n\r\n%b\r\n'
END = b"--B--\r\n"


async def parsed(
    *chunks: bytes, kind: str = "multipart/form-data; boundary=B", limits: FormLimits = LIMITS
) -> list[tuple[str, str | bytes]]:
    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    request = Request({"type": "http", "headers": [(b"content-type", kind.encode())]})
    async with read_form(request, arriving(), limits) as form:  # type: ignore[arg-type]
        return [
            (name, await value.read() if isinstance(value, UploadFile) else value) for name, value in form.multi_items()
        ]


def cut(body: bytes, sizes: random.Random) -> list[bytes]:
    chunks = []
    while body:
        size = sizes.choice([1, 2, 3, 17, 200])
        chunks.append(body[:size])
        body = body[size:]
    return chunks


async def test_the_pieces_in_which_a_form_arrives_make_no_difference() -> None:
    content = b"\r\n--\r\n-\r--B\n--B\r\n--A" * 20
    body = FIELD % (b"a", b"1") + FILE % (b"image", content) + FIELD % (b"b", b"") + END
    expected = [("a", "1"), ("image", content), ("b", "")]
    assert await parsed(body) == expected
    assert await parsed(*(bytes([byte]) for byte in body)) == expected
    for seed in range(20):
        assert await parsed(*cut(body, random.Random(seed))) == expected


@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"for old mail programs\r\n", b"-" * 60_000 + b"\r\n"])
@pytest.mark.parametrize(
    "epilogue", [b"", b"\r\n", b"\r\nignored\r\n" + FIELD % (b"b", b"2"), b"\r\n" + b"x" * 200_000]
)
async def test_what_surrounds_the_parts_is_ignored(preamble: bytes, epilogue: bytes) -> None:
    body = preamble + FIELD % (b"a", b"1") + b"--B--" + epilogue
    assert await parsed(body) == [("a", "1")]
    assert await parsed(*cut(body[:2000], random.Random(1)), body[2000:]) == [("a", "1")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "does not contain the boundary"),
        (b"x", "does not contain the boundary"),
        (b"x" * (MAX_PREAMBLE_BYTES + 100), "first 65536 bytes do not contain"),
        (b"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + END, "name"),
        (b"--B\r\nno header\r\n\r\n1\r\n" + END, "Invalid multipart data"),
        (b"--B\r\na: " + b"b" * 10_000, "Invalid multipart data"),
        (b"--B\r\nContent-Disposition: form-data" + b";a" * (MAX_OPTIONS + 1) + b"\r\n\r\n", "more than 64 options"),
        (FIELD % (b"a", b"x" * 1001) + END, "Part exceeded maximum size"),
        (FIELD % (b"a", b"1") * (MAX_FIELDS + 1) + END, "Too many fields"),
    ],
)  # fmt: skip
async def test_what_is_no_form_is_named(body: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=f"the form cannot be parsed: .*{words}"):
        await parsed(body)
    with pytest.raises(RequestError, match=f"the form cannot be parsed: .*{words}"):
        await parsed(*(body[at : at + 5] for at in range(0, len(body), 5)))


async def test_the_boundary_has_to_be_named() -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""'):
        with pytest.raises(RequestError, match="Missing boundary"):
            await parsed(END, kind=kind)
    with pytest.raises(RequestError, match="more than 64 options"):
        await parsed(END, kind="multipart/form-data" + ";a" * 100)


async def test_files_are_limited_in_number() -> None:
    assert len(await parsed(FILE % (b"a", b"1") * 3 + END)) == 3
    with pytest.raises(BodyTooLarge, match="more than 3 files"):
        await parsed(FILE % (b"a", b"1") * 4 + END)


async def test_a_large_file_goes_through_the_disk_and_comes_back_whole() -> None:
    content = random.Random(1).randbytes(100_000)
    assert await parsed(*cut(FILE % (b"a", content) + END, random.Random(2))) == [("a", content)]


@pytest.mark.parametrize(
    "piece",
    [b"\r", b"\r\n", b"\r\n-", b"\r\n--" + b"b" * 69, b"-", b"b", b"\r\n--" + b"b" * 70 + b" "],
    ids=["CR", "lines", "dashes", "almost the boundary", "hyphens", "its letter", "boundaries"],
)
async def test_content_that_imitates_the_boundary_takes_linear_time(piece: bytes) -> None:
    boundary = b"b" * 70
    content = piece * (64 * 1024 // len(piece))
    head = FILE.replace(b"--B", b"--" + boundary) % (b"a", b"")
    started = time.thread_time()
    try:
        await parsed(
            head[:-2],
            *[content] * 160,
            b"\r\n--" + boundary + b"--",
            kind="multipart/form-data; boundary=" + boundary.decode(),
            limits=FormLimits(files=1, field_bytes=1, memory_bytes=100_000_000),
        )
    except RequestError:
        assert piece.endswith(b" ")
    assert time.thread_time() - started < 5  # 10 MB


async def test_the_event_loop_runs_between_many_small_parts() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    body, many = FILE % (b"a", b"") * 500 + END, FormLimits(files=500, field_bytes=1, memory_bytes=1)
    assert len(await parsed(body, limits=many)) == 500
    counting.cancel()
    assert turns >= len(body) // PIECE
