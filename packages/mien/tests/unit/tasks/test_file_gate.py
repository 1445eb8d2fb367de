"""Files of the store on their way into workers and back, with the real store."""

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.errors import BodyTooLarge, NotFound
from mien.keys import DEFAULT_OWNER
from mien.net.fetch import Fetcher
from mien.storage.database import Database
from mien.storage.file_records import NewFile
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.links import file_id, file_uri, quoted_texts
from mien.storage.local_blobs import LocalBlobs
from mien.tasks.file_gate import StoreGate
from mien.workers.files import OutputFile
from mien.workers.listener import AppError


@pytest.fixture
async def files(tmp_path: Path, clock: Any) -> AsyncIterator[FileStore]:
    database = await Database.open(tmp_path / "mien.db")
    store = FileStore(FileTable(database, clock), LocalBlobs(tmp_path / "files"), clock=clock, max_bytes=1000)
    await store.start()
    yield store
    await database.close()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with Fetcher(allow_private=True, tries=2, timeout=5.0, max_bytes=1000, too_large=BodyTooLarge) as made:
        yield made


async def uploaded(files: FileStore, content: bytes, name: str) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    record = await files.create(NewFile(filename=name))
    return file_uri(await files.write(record.id, chunks()))


async def test_an_input_without_files_passes_as_it_is(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    given = Encoded.of({"text": "https://example.org/files/x.png"})
    assert await StoreGate(files, fetcher).fetch("t", DEFAULT_OWNER, given, tmp_path) is given


async def test_files_of_an_input_become_paths_to_copies(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    name, folder = await uploaded(files, b"content", "a b.txt"), tmp_path / "given"
    folder.mkdir()
    given = Encoded.of({"one": name, "two": [name], "other": 5})
    value = (await StoreGate(files, fetcher).fetch("t", DEFAULT_OWNER, given, folder)).value
    path = Path(value["one"])
    assert value == {"one": str(path), "two": [str(path)], "other": 5}
    assert path.is_relative_to(folder)
    assert (path.name, path.read_bytes()) == ("a b.txt", b"content")
    path.write_bytes(b"changed by the app")
    again = tmp_path / "again"
    again.mkdir()
    value = (await StoreGate(files, fetcher).fetch("t", DEFAULT_OWNER, given, again)).value
    assert Path(value["one"]).read_bytes() == b"content"


async def test_a_text_that_is_no_reference_is_given_as_the_client_wrote_it(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    name = await uploaded(files, b"content", "a.txt")
    given = Encoded.of(quoted_texts({"text": name, "other": "mien-file://text/x"}))
    assert (await StoreGate(files, fetcher).fetch("t", DEFAULT_OWNER, given, tmp_path)).value == {
        "text": name,
        "other": "mien-file://text/x",
    }
    assert list(tmp_path.glob("*.txt")) == []


async def test_a_file_that_is_gone_fails_the_run(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    name = await uploaded(files, b"content", "a.txt")
    await files.delete(str(file_id(name)))
    with pytest.raises(NotFound):
        await StoreGate(files, fetcher).fetch("t", DEFAULT_OWNER, Encoded.of(name), tmp_path)


async def test_an_output_file_is_stored_once_while_it_stays_the_same(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    gate, path = StoreGate(files, fetcher), tmp_path / "out.png"
    path.write_bytes(b"one")
    with path.open("rb") as content:
        first = await gate.store("t", DEFAULT_OWNER, OutputFile(path, content, "image/png"))
        assert await gate.store("t", DEFAULT_OWNER, OutputFile(path, content, "image/png")) == first
    record = await files.get(str(file_id(first)))
    assert (record.task_id, record.filename, record.content_type, record.size) == ("t", "out.png", "image/png", 3)
    path.write_bytes(b"other")
    with path.open("rb") as content:
        assert await gate.store("t", DEFAULT_OWNER, OutputFile(path, content)) != first


async def test_an_output_file_that_grows_is_stored_as_it_was_found_and_one_that_shrinks_is_an_error(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    class Changing(io.FileIO):
        """Changes once its size has been looked at: nothing else is read through this object."""

        def fileno(self) -> int:
            self.looks = getattr(self, "looks", 0) + 1
            if self.looks == 3:
                os.truncate(path, size)
            return super().fileno()

    gate, path = StoreGate(files, fetcher), tmp_path / "out.bin"
    for size in (500, 50):
        path.write_bytes(b"x" * 100)
        with Changing(path, "rb") as content:
            storing = gate.store("t", DEFAULT_OWNER, OutputFile(path, content))  # type: ignore[arg-type]
            if size > 100:
                record = await files.get(str(file_id(await storing)))
                assert record.size == 100
            else:
                with pytest.raises(AppError, match="became shorter"):
                    await storing


async def test_an_output_file_over_the_limit_is_refused_by_name(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(1001))
    os.truncate(path, 1 << 40)  # without taking that much of the disk
    with path.open("rb") as content, pytest.raises(BodyTooLarge, match=r"big\.bin"):
        await StoreGate(files, fetcher).store("t", DEFAULT_OWNER, OutputFile(path, content))
