"""The conformance suite of file stores, and what is particular to a directory."""

import asyncio
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mien.errors import BodyTooLarge, Conflict, NotFound, QuotaExceeded, RequestError, StorageFull, UnsupportedMediaType
from mien.storage.database import Database
from mien.storage.file_records import NewFile, safe_name
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.local_blobs import LocalBlobs

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[FileStore]:
    database = await Database.open(tmp_path / "tasks.db")
    store = FileStore(
        FileTable(database, clock),
        LocalBlobs(tmp_path / "files"),
        clock=clock,
        max_bytes=3_000_000,
        keep_seconds=1000.0,
    )
    await store.start()
    yield store
    await database.close()


async def chunks(data: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def content(store: FileStore, file_id: str, start: int = 0, stop: int | None = None) -> bytes:
    async with await store.open(file_id, start, stop) as opened:
        return b"".join([block async for block in opened])


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "files" / "blobs").rglob("*") if path.is_file()]


def uploads(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "files" / "uploads").iterdir())


async def test_a_file_is_read_back_unchanged_whole_and_in_ranges(store: FileStore) -> None:
    data = os.urandom(2_500_001)
    record = await store.create(NewFile(filename="a.bin", size=len(data), owner="k"))
    assert not record.ready
    with pytest.raises(NotFound):
        await store.open(record.id)
    stored = await store.write(record.id, chunks(data))
    assert (stored.size, stored.ready, stored.content_type) == (len(data), True, "application/octet-stream")
    assert stored == await store.get(record.id)
    assert await content(store, record.id) == data
    assert await content(store, record.id, 1_000_000, 2_200_000) == data[1_000_000:2_200_000]
    assert await content(store, record.id, 9_999_999) == b""
    path = await store.local_path(record.id)
    assert path is not None
    assert path.stat().st_mode & 0o077 == 0


async def test_equal_content_is_stored_once_until_its_last_record_is_removed(store: FileStore, tmp_path: Path) -> None:
    records = [await store.create(NewFile(filename=f"{n}.txt")) for n in range(3)]
    await asyncio.gather(*[store.write(record.id, chunks(b"same")) for record in records])
    assert len(blobs(tmp_path)) == 1
    for record in records[:2]:
        await store.delete(record.id)
    assert await content(store, records[2].id) == b"same"
    await store.delete(records[2].id)
    assert blobs(tmp_path) == []
    with pytest.raises(NotFound):
        await store.delete(records[2].id)


async def test_concurrent_upload_and_delete_of_the_same_content_never_lose_it(store: FileStore) -> None:
    for _ in range(20):
        old = await store.create(NewFile())
        await store.write(old.id, chunks(b"contested"))
        new = await store.create(NewFile())
        await asyncio.gather(store.delete(old.id), store.write(new.id, chunks(b"contested")))
        assert await content(store, new.id) == b"contested"
        await store.delete(new.id)


async def test_a_truncated_upload_leaves_nothing_and_can_be_retried(store: FileStore, tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 1_500_000
        raise ConnectionResetError

    record = await store.create(NewFile(size=2_000_000))
    with pytest.raises(ConnectionResetError):
        await store.write(record.id, cut())
    with pytest.raises(RequestError, match="declared"):
        await store.write(record.id, chunks(b"x" * 1_999_999))
    with pytest.raises(RequestError, match="declared"):
        await store.write(record.id, chunks(b"x" * 2_000_001))
    assert (uploads(tmp_path), blobs(tmp_path)) == ([], [])
    await store.write(record.id, chunks(b"x" * 2_000_000))
    assert (await store.get(record.id)).size == 2_000_000


async def test_a_cancelled_upload_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 1_100_000
        await asyncio.sleep(60)

    record = await store.create(NewFile())
    writing = asyncio.create_task(store.write(record.id, endless()))
    await asyncio.sleep(0.1)
    assert len(uploads(tmp_path)) == 1
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert uploads(tmp_path) == []


async def test_too_much_is_refused_as_soon_as_it_is_known(store: FileStore, tmp_path: Path) -> None:
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100_000
            yield b"x" * 100_000

    record = await store.create(NewFile())
    with pytest.raises(BodyTooLarge):
        await store.write(record.id, flood())
    assert sent <= 3_200_000
    assert uploads(tmp_path) == []
    with pytest.raises(BodyTooLarge):
        await store.create(NewFile(size=3_000_001))


async def test_content_never_changes(store: FileStore, tmp_path: Path) -> None:
    record = await store.create(NewFile())
    first = await store.write(record.id, chunks(b"one"))
    assert await store.write(record.id, chunks(b"one")) == first
    with pytest.raises(Conflict):
        await store.write(record.id, chunks(b"two"))
    assert await content(store, record.id) == b"one"
    assert len(blobs(tmp_path)) == 1


async def test_a_file_that_is_being_read_survives_its_deletion(store: FileStore) -> None:
    record = await store.create(NewFile())
    await store.write(record.id, chunks(b"x" * 2_500_000))
    async with await store.open(record.id) as opened:
        reading = aiter(opened)
        first = await anext(reading)
        await store.delete(record.id)
        rest = [block async for block in reading]
    assert len(first) + sum(map(len, rest)) == 2_500_000


@pytest.mark.parametrize(
    ("declared", "header", "name", "data", "kind"),
    [
        (None, None, "x.png", PNG, "image/png"),
        ("image/png", None, "x", PNG, "image/png"),
        ("image/jpeg", None, "x", PNG, "image/jpeg"),
        (None, "IMAGE/PNG; charset=x", "x", PNG, "image/png"),
        ("application/octet-stream", None, "x.txt", b"hello", "text/plain"),
        ("nonsense", None, "x", b"hello", "application/octet-stream"),
        (None, None, "x.png", b"<script>alert(1)</script>", "text/html"),
        ("video/mp4", None, "x", b"\x1a\x45\xdf\xa3 matroska", "video/mp4"),
        (
            "application/vnd.oasis.opendocument.text",
            None,
            "x",
            b"PK\x03\x04",
            "application/vnd.oasis.opendocument.text",
        ),
    ],
)
async def test_types_come_from_the_declaration_then_the_content_then_the_name(
    store: FileStore, declared: str | None, header: str | None, name: str, data: bytes, kind: str
) -> None:
    record = await store.create(NewFile(filename=name, content_type=declared))
    assert (await store.write(record.id, chunks(data), header)).content_type == kind


@pytest.mark.parametrize(
    "data", [b"<html><script>", b"  <!DOCTYPE html>", b"%PDF-1.7", b"\x7fELF", b"PK\x03\x04", b"<svg onload=x>"]
)
async def test_what_is_plainly_no_image_is_not_stored_as_one(store: FileStore, tmp_path: Path, data: bytes) -> None:
    record = await store.create(NewFile(content_type="image/png"))
    with pytest.raises(UnsupportedMediaType):
        await store.write(record.id, chunks(data))
    assert (uploads(tmp_path), blobs(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.exe", "x.exe"),
        ("..", "file"),
        ("", "file"),
        (None, "file"),
        ("a\0b\r\nc.txt", "abc.txt"),
        ("\u202egnp.exe", "gnp.exe"),
        ("x" * 500 + ".jpeg", "x" * 195 + ".jpeg"),
        ("Ünïcode 名.png", "Ünïcode 名.png"),
        ("/", "file"),
        ("...hidden", "hidden"),
        ("\ud800", "file"),
    ],
)
def test_names_are_only_names(name: str | None, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_any_name_becomes_a_harmless_one(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= 200
    assert not set(safe) & set("/\\\0\r\n")
    assert safe not in (".", "..")
    safe.encode()


async def test_names_and_paths_never_reach_the_disk(store: FileStore, tmp_path: Path) -> None:
    record = await store.create(NewFile(filename="../../../escaped", path="/etc/../../escaped2"))
    await store.write(record.id, chunks(b"x"))
    assert not [path for path in tmp_path.parent.rglob("*escaped*") if path.is_file()]
    with pytest.raises(NotFound):
        await store.get("../../tasks.db")


async def test_files_are_listed_newest_first_without_gaps(store: FileStore, clock: Clock) -> None:
    ids = []
    for n in range(7):
        clock.now += n % 2
        ids.append((await store.create(NewFile(owner="a" if n < 6 else "b"))).id)
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.find(owner="a", cursor=cursor, limit=2)
        seen += [record.id for record in page.files]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(ids[:6])
    with pytest.raises(RequestError):
        await store.find(cursor="x_y")


async def test_purge_removes_expired_files_missing_uploads_and_orphaned_content(
    store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    kept = await store.create(NewFile())
    await store.write(kept.id, chunks(b"kept"))
    stray = tmp_path / "files" / "blobs" / "ab" / "cd" / ("abcd" + "0" * 60)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    os.utime(stray, (clock.now - 7200, clock.now - 7200))
    await store.purge(clock.now)
    assert not stray.exists()
    assert await content(store, kept.id) == b"kept"
    await store.create(NewFile())
    assert await store.purge(clock.now + 1001) == 2
    assert blobs(tmp_path) == []


async def test_unfinished_outputs_of_a_dead_server_are_removed_and_pending_uploads_kept(
    tmp_path: Path, clock: Clock
) -> None:
    database = await Database.open(tmp_path / "t.db")
    dead = FileStore(FileTable(database, clock), LocalBlobs(tmp_path / "files"), clock=clock)
    of_task, of_client = await dead.create(NewFile(task_id="t1")), await dead.create(NewFile())
    clock.now += 5
    store = FileStore(FileTable(database, clock), LocalBlobs(tmp_path / "files"), clock=clock)
    await store.start()
    under_way = await store.create(NewFile(task_id="t1"))
    assert await store.purge(clock.now) == 1
    assert {record.id for record in (await store.find()).files} == {of_client.id, under_way.id}
    with pytest.raises(NotFound):
        await store.get(of_task.id)
    await database.close()


async def test_a_file_with_a_shorter_retention_expires_earlier_and_is_then_unknown(
    store: FileStore, clock: Clock
) -> None:
    short, usual, long = [await store.create(NewFile(keep_seconds=seconds)) for seconds in (10.0, None, 5000.0)]
    assert [record.expires_at for record in (short, usual, long)] == [
        clock.now + 10,
        clock.now + 1000,
        clock.now + 1000,
    ]
    await store.write(short.id, chunks(b"short"))
    clock.now += 10
    for call in (store.get, store.open, store.local_path):
        with pytest.raises(NotFound):
            await call(short.id)
    assert {record.id for record in (await store.find()).files} == {usual.id, long.id}
    assert await store.expire(clock.now) == 1


async def test_interrupted_uploads_are_removed_at_start(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "files" / "uploads" / "left").write_bytes(b"x")
    await store.start()
    assert uploads(tmp_path) == []


async def test_an_output_of_a_task_is_stored_from_its_open_file(store: FileStore, tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(PNG)
    with path.open("rb") as content:
        record = await store.add_open(NewFile(task_id="t1", filename="out.png"), content)
    assert (record.filename, record.content_type, record.size) == ("out.png", "image/png", len(PNG))
    assert (await store.find(task_id="t1")).files == (record,)


FULL_DISK = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from mien.storage.database import Database
    from mien.errors import StorageFull
    from mien.storage.file_store import FileStore
    from mien.storage.file_table import FileTable
    from mien.storage.local_blobs import LocalBlobs
    from mien.storage.file_records import NewFile

    async def chunks(size):
        for _ in range(size // 100_000):
            yield b"x" * 100_000

    async def main(folder):
        database = await Database.open(folder / "tasks.db")
        store = FileStore(FileTable(database, lambda: 1.0), LocalBlobs(folder / "files"), clock=lambda: 1.0)
        await store.start()
        record = await store.create(NewFile())
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
        try:
            await store.write(record.id, chunks(5_000_000))
        except StorageFull as error:
            print("full:", error.message)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("left:", len(list((folder / "files" / "uploads").iterdir())))
        stored = await store.write(record.id, chunks(5_000_000))
        print("stored:", stored.size)
        await database.close()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_is_reported_clearly_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "full: the server's disk is full; the file was not stored", "left: 0", "stored: 5000000",
    ], done.stderr  # fmt: skip
    assert StorageFull.status == 507
    assert resource.RLIM_INFINITY


@given(data=st.binary(max_size=3000), size=st.integers(1, 700), a=st.integers(0, 3500), b=st.integers(0, 3500))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_content_in_any_chunks_and_any_range(store: Any, data: bytes, size: int, a: int, b: int) -> None:
    record = await store.create(NewFile(size=len(data)))
    await store.write(record.id, chunks(data, size))
    start, stop = sorted((a, b))
    assert await content(store, record.id, start, stop) == data[start:stop]


@pytest.fixture
async def limited(tmp_path: Path, clock: Clock) -> AsyncIterator[FileStore]:
    """A store in which the owner `a` may have 1,000 bytes."""
    database = await Database.open(tmp_path / "tasks.db")
    table = FileTable(database, clock, lambda owner: 1000 if owner == "a" else None)
    store = FileStore(table, LocalBlobs(tmp_path / "files"), clock=clock)
    await store.start()
    yield store
    await database.close()


async def test_an_owner_has_at_most_its_quota_of_bytes(limited: FileStore, tmp_path: Path) -> None:
    first = await limited.create(NewFile(owner="a"))
    await limited.write(first.id, chunks(b"x" * 600))
    with pytest.raises(QuotaExceeded, match="may have 1000 and has 600; this request needs 500 more"):
        await limited.create(NewFile(owner="a", size=500))
    declared = await limited.create(NewFile(owner="a", size=300))
    second = await limited.create(NewFile(owner="a"))
    with pytest.raises(QuotaExceeded, match="bytes of files"):
        await limited.write(second.id, chunks(b"y" * 101))
    assert list((tmp_path / "files" / "uploads").iterdir()) == []
    await limited.write(declared.id, chunks(b"z" * 300))
    await limited.write(declared.id, chunks(b"z" * 300))  # again, as its response was lost
    await limited.write(second.id, chunks(b"y" * 100))
    (tmp_path / "made").write_bytes(b"1")
    with (tmp_path / "made").open("rb") as made, pytest.raises(QuotaExceeded):
        await limited.add_open(NewFile(owner="a", task_id="t"), made)
    await limited.delete(first.id)
    third = await limited.create(NewFile(owner="a"))
    await limited.write(third.id, chunks(b"x" * 600))
    other = await limited.create(NewFile(owner="b"))
    await limited.write(other.id, chunks(b"x" * 100_000))


async def test_uploads_at_once_count_together_and_stop_where_the_quota_ends(limited: FileStore) -> None:
    sent = 0
    arrived = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a" * 600
        arrived.set()
        await asyncio.sleep(60)

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b"b" * 100

    slow, fast = await limited.create(NewFile(owner="a")), await limited.create(NewFile(owner="a"))
    uploading = asyncio.create_task(limited.write(slow.id, slowly()))
    await arrived.wait()
    with pytest.raises(QuotaExceeded, match="may have 1000 and has 1000"):
        await limited.write(fast.id, endless())
    assert sent == 500
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await limited.write(fast.id, chunks(b"b" * 1000))


async def test_an_upload_of_declared_size_counts_once_while_it_arrives(limited: FileStore) -> None:
    """Its record counts already, so that two outputs which fit together can be stored at once."""
    arrived, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a" * 500
        arrived.set()
        await goes_on.wait()
        yield b"a" * 100

    declared = await limited.create(NewFile(owner="a", size=600))
    uploading = asyncio.create_task(limited.write(declared.id, slowly()))
    await arrived.wait()
    other = await limited.create(NewFile(owner="a", size=300))
    await limited.write(other.id, chunks(b"b" * 300))
    undeclared = await limited.create(NewFile(owner="a"))
    with pytest.raises(QuotaExceeded, match="may have 1000 and has 900"):
        await limited.write(undeclared.id, chunks(b"c" * 101))
    await limited.write(undeclared.id, chunks(b"c" * 100))
    goes_on.set()
    assert (await uploading).size == 600


async def test_copies_for_a_run_count_while_they_exist(limited: FileStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(b"x" * 400)
    async with limited.arriving("a") as arrival:
        arrival(400)
        arrival.copy = copy
    async with limited.arriving("a") as count:
        count(600)
        with pytest.raises(QuotaExceeded, match="may have 1000 and has 1000"):
            count(1)
    copy.unlink()
    async with limited.arriving("a") as count:
        count(900)
        with pytest.raises(QuotaExceeded):
            await limited.write((await limited.create(NewFile(owner="a"))).id, chunks(b"x" * 200))
        with pytest.raises(QuotaExceeded):
            count(101)
    async with limited.arriving("a") as count:
        count(1000)
    async with limited.arriving("b") as count:
        count(10**12)
