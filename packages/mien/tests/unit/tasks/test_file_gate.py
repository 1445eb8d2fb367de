"""Files of the store on their way into workers and back, with the real store."""

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.errors import BodyTooLarge, NotFound, QuotaExceeded, SourceFailed, SourceNotFound, SourceRefused
from mien.keys import DEFAULT_OWNER
from mien.net.fetch import Fetcher
from mien.storage.database import Database
from mien.storage.file_records import NewFile
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.links import file_id, file_uri, quoted_texts
from mien.storage.local_blobs import LocalBlobs
from mien.tasks.file_gate import StoreGate
from mien.tasks.input_files import require_files
from mien.tasks.input_paths import InputPaths
from mien.workers.files import OutputFile
from mien.workers.listener import AppError
from testing.web import answer, serving


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


def gate_of(files: FileStore, fetcher: Fetcher, *folders: Path, closed: Path = Path("/nowhere")) -> StoreGate:
    """A gate that opens paths below these directories."""
    return StoreGate(files, fetcher, InputPaths(folders, closed))


async def uploaded(files: FileStore, content: bytes, name: str) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    record = await files.create(NewFile(filename=name))
    return file_uri(await files.write(record.id, chunks()))


async def test_an_input_without_files_passes_as_it_is(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    given = Encoded.of({"text": "https://example.org/files/x.png"})
    assert await gate_of(files, fetcher).fetch("t", DEFAULT_OWNER, given, tmp_path) is given


async def test_files_of_an_input_become_paths_to_copies(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    name, folder = await uploaded(files, b"content", "a b.txt"), tmp_path / "given"
    folder.mkdir()
    given = Encoded.of({"one": name, "two": [name], "other": 5})
    value = (await gate_of(files, fetcher).fetch("t", DEFAULT_OWNER, given, folder)).value
    path = Path(value["one"])
    assert value == {"one": str(path), "two": [str(path)], "other": 5}
    assert path.is_relative_to(folder)
    assert (path.name, path.read_bytes()) == ("a b.txt", b"content")
    path.write_bytes(b"changed by the app")
    again = tmp_path / "again"
    again.mkdir()
    value = (await gate_of(files, fetcher).fetch("t", DEFAULT_OWNER, given, again)).value
    assert Path(value["one"]).read_bytes() == b"content"


async def test_a_file_that_an_input_names_many_times_is_looked_up_once(
    files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = file_id(await uploaded(files, b"content", "a.txt")) or ""
    get, asked = files.get, []

    async def counted(file: str, owner: str | None = None) -> Any:
        asked.append(file)
        return await get(file, owner)

    monkeypatch.setattr(files, "get", counted)
    await require_files(files, [(f"[{number}]", known) for number in range(500)], "input", DEFAULT_OWNER)
    assert asked == [known]


async def test_a_text_that_is_no_reference_is_given_as_the_client_wrote_it(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    name = await uploaded(files, b"content", "a.txt")
    given = Encoded.of(quoted_texts({"text": name, "other": "mien-file://text/x"}))
    assert (await gate_of(files, fetcher).fetch("t", DEFAULT_OWNER, given, tmp_path)).value == {
        "text": name,
        "other": "mien-file://text/x",
    }
    assert list(tmp_path.glob("*.txt")) == []


async def test_a_file_that_is_gone_fails_the_run(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    name = await uploaded(files, b"content", "a.txt")
    await files.delete(str(file_id(name)))
    with pytest.raises(NotFound):
        await gate_of(files, fetcher).fetch("t", DEFAULT_OWNER, Encoded.of(name), tmp_path)


async def test_an_output_file_is_stored_once_while_it_stays_the_same(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    gate, path = gate_of(files, fetcher), tmp_path / "out.png"
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

    gate, path = gate_of(files, fetcher), tmp_path / "out.bin"
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
        await gate_of(files, fetcher).store("t", DEFAULT_OWNER, OutputFile(path, content))


@pytest.fixture
async def limited(tmp_path: Path, clock: Any) -> AsyncIterator[FileStore]:
    """A store in which every owner may have 1,000 bytes."""
    database = await Database.open(tmp_path / "limited.db")
    table = FileTable(database, clock, lambda owner: 1000)
    store = FileStore(table, LocalBlobs(tmp_path / "files"), clock=clock, max_bytes=10_000)
    await store.start()
    yield store
    await database.close()


async def test_uploads_outputs_and_fetched_files_count_into_one_quota(
    limited: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    data, inputs, given = tmp_path / "data", tmp_path / "inputs", tmp_path / "given"
    for folder in (data, inputs, given):
        folder.mkdir()
    gate = gate_of(limited, fetcher, inputs, closed=data)
    (inputs / "a.bin").write_bytes(b"a" * 400)
    words = r"^[a-z. ]*:? ?quota of bytes of files: the owner 'default' may have 1000 and has "
    await uploaded(limited, b"u" * 300, "u.bin")
    async with serving() as serve:
        site = await serve(answer(b"f" * 200))
        fetched = await gate.download(DEFAULT_OWNER, site.url(), given)
        by_path = await gate.download(DEFAULT_OWNER, f"server-file://{inputs}/a.bin", given)
        with pytest.raises(QuotaExceeded, match=f"{words}900"):
            await gate.download(DEFAULT_OWNER, site.url(), given)
        with pytest.raises(QuotaExceeded, match=f"{words}900"):
            await gate.download(DEFAULT_OWNER, f"server-file://{inputs}/a.bin", given)
        with pytest.raises(QuotaExceeded, match=f"{words}900"):
            await uploaded(limited, b"u" * 101, "u.bin")
        with (inputs / "a.bin").open("rb") as content, pytest.raises(QuotaExceeded, match=words):
            await gate.store("t", DEFAULT_OWNER, OutputFile(inputs / "a.bin", content))
        assert sorted(given.rglob("*.*")) == sorted([fetched.path, by_path.path]), "nothing is left of what was refused"
        by_path.path.unlink()  # with its run
        await gate.download(DEFAULT_OWNER, site.url(), given)
        with (inputs / "a.bin").open("rb") as content:
            os.truncate(inputs / "a.bin", 300)
            await gate.store("t", DEFAULT_OWNER, OutputFile(inputs / "a.bin", content))
        with pytest.raises(QuotaExceeded, match=f"{words}1000"):
            await gate.download(DEFAULT_OWNER, site.url(), given)


async def test_a_path_below_the_operators_directories_is_copied(
    files: FileStore, fetcher: Fetcher, tmp_path: Path
) -> None:
    inputs, link, given = tmp_path / "inputs", tmp_path / "link", tmp_path / "given"
    for folder in (inputs / "deep", given):
        folder.mkdir(parents=True)
    link.symlink_to(inputs)
    (inputs / "deep" / "a b%.txt").write_text("content")
    gate = gate_of(files, fetcher, tmp_path / "other", link, closed=given)
    for top in (link, inputs):  # the operator's name for it, and its own
        found = await gate.download(DEFAULT_OWNER, f"server-file://{top}/deep/a%20b%25.txt", given)
        assert (found.path.name, found.path.read_text()) == ("a b%.txt", "content")
        assert found.path.is_relative_to(given)
        found.path.write_text("changed by the app")
    (inputs / "big.bin").write_bytes(bytes(1001))
    with pytest.raises(BodyTooLarge, match="MIEN_FILE_MAX_BYTES"):
        await gate.download(DEFAULT_OWNER, f"server-file://{inputs}/big.bin", given)


async def test_no_other_path_is_opened(files: FileStore, fetcher: Fetcher, tmp_path: Path) -> None:
    inputs, outside, given = tmp_path / "inputs", tmp_path / "outside", tmp_path / "given"
    data = inputs / "data"
    for folder in (inputs / "deep", outside, given, data / "secrets"):
        folder.mkdir(parents=True)
    (outside / "a.txt").write_text("secret")
    (data / "secrets" / "files.key").write_text("secret")
    (inputs / "link.txt").symlink_to(outside / "a.txt")
    (inputs / "links").symlink_to(outside)
    (inputs / "to_data").symlink_to(data)
    os.mkfifo(inputs / "pipe")
    gate = gate_of(files, fetcher, inputs, data / "secrets", closed=data)
    for path, words in (
        (f"{outside}/a.txt", "is not below one of the directories in MIEN_APP_INPUT_DIRS"),
        (f"{inputs}/../outside/a.txt", "is not below one of the directories in MIEN_APP_INPUT_DIRS"),
        ("deep/a.txt", "is not below one of the directories in MIEN_APP_INPUT_DIRS"),
        (f"{inputs}/%2e%2e/outside/a.txt", "is not below one of the directories in MIEN_APP_INPUT_DIRS"),
        (f"{inputs}/link.txt", "is a link or behind one"),
        (f"{inputs}/links/a.txt", "is a link or behind one"),
        (f"{inputs}/to_data/secrets/files.key", "is a link or behind one"),
        (f"{data}/secrets/files.key", "belongs to the server"),
        (f"{inputs}/deep", "is not a regular file"),
        (f"{inputs}/pipe", "is not a regular file"),
    ):
        with pytest.raises(SourceRefused, match=words):
            await gate.download(DEFAULT_OWNER, f"server-file://{path}", given)
    with pytest.raises(SourceNotFound, match=r"there is no file '.*/gone\.txt'"):
        await gate.download(DEFAULT_OWNER, f"server-file://{inputs}/gone.txt", given)
    with pytest.raises(SourceFailed, match="cannot be read"):
        await gate.download(DEFAULT_OWNER, f"server-file://{inputs}/%00", given)
    assert list(given.iterdir()) == []
