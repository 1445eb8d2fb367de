"""The socket to a worker is where its path is short enough, wherever temporary files are."""

import os
import tempfile
from pathlib import Path

import pytest

from mien.errors import InvalidSettings
from mien.workers import handshake
from mien.workers.handshake import LONGEST_ADDRESS, rendezvous, socket_folder


def deep(tmp_path: Path, length: int) -> Path:
    """A folder whose path has at least that many bytes."""
    while len(os.fsencode(tmp_path)) < length:
        tmp_path /= "deeper"
    tmp_path.mkdir(parents=True)
    return tmp_path


@pytest.fixture(autouse=True)
def _forget_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is looked up once per process


async def test_a_long_folder_for_temporary_files_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = deep(tmp_path / "a", 150)
    monkeypatch.setenv("TMPDIR", str(folder))
    async with rendezvous(tmp_path) as expected:
        assert len(os.fsencode(expected.address)) <= LONGEST_ADDRESS
        assert expected.address.is_socket()
        assert expected.address.parent.stat().st_mode & 0o777 == 0o700
    assert not expected.address.parent.exists()
    assert list(folder.iterdir()) == []


def test_a_short_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert socket_folder() == folder


def test_where_no_folder_is_short_enough_the_start_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(deep(tmp_path / "a", 150)))
    monkeypatch.setattr(handshake, "_USUAL_FOLDERS", ("/nonexistent",))
    with pytest.raises(InvalidSettings, match=r"TMPDIR: .* is too long for the sockets of workers"):
        socket_folder()
