"""What only the server's user may read."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.keys import FileKeyStore
from mien.private import tighten
from mien.quotas import FileOwnerStore
from mien.storage.database import Database
from mien.storage.signing import load_key


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_state_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "data"
    FileKeyStore(folder).create("a", ["infer"])
    FileOwnerStore(folder).set("a", {"queued": 1})
    load_key(folder / "secrets" / "files.key")
    (folder / "begin-anew").touch()
    database = await Database.open(folder / "mien.db")
    await database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE x (y)") and None)
    for path in [folder, *folder.rglob("*")]:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert {"mien.db", "mien.db-wal", "mien.db-shm", "keys.json", "owners.json"} <= {
        path.name for path in folder.iterdir()
    }
    await database.close()


def test_what_others_could_read_is_tightened_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "secrets").mkdir(parents=True)
    (folder / "mien.db").touch()
    (folder / "secrets" / "files.key").touch()
    for path in (folder, folder / "secrets"):
        path.chmod(0o755)
    for path in (folder / "mien.db", folder / "secrets" / "files.key"):
        path.chmod(0o644)
    changed, failed = tighten(folder)
    assert failed == []
    assert changed == [". (0755)", "mien.db (0644)", "secrets (0755)", "secrets/files.key (0644)"]
    assert [mode(path) for path in (folder, folder / "mien.db")] == [0o700, 0o600]
    assert tighten(folder) == ([], [])


def test_a_folder_that_others_share_and_a_link_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o644)
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "link").symlink_to(outside)
    assert tighten(folder) == ([], [". (1777)"])
    assert mode(outside) == 0o644
    assert tighten(tmp_path / "nothing") == ([], [])
