"""Atomic file writes, and file locks."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mien.atomic import create_file, remove_leftovers, replace_file
from mien.locks import locked, open_lock, try_lock, try_share_lock


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_file(path, b"old")
    replace_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_replacement_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    replace_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_of_concurrent_creators_of_a_file_exactly_one_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made: list[bytes] = []

    def create(content: bytes) -> None:
        if create_file(path, content):
            made.append(content)

    threads = [threading.Thread(target=create, args=(bytes([n]) * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [path.read_bytes()]
    assert [found.name for found in tmp_path.iterdir()] == ["key"]


def test_a_lock_excludes_others_of_the_same_process_until_its_block_ends(tmp_path: Path) -> None:
    other = open_lock(tmp_path / "lock")
    with locked(tmp_path / "lock"):
        assert not try_lock(other)
        assert not try_share_lock(other)
    assert try_lock(other)
    os.close(other)


def test_a_lock_is_free_once_the_last_process_that_inherited_it_has_ended(tmp_path: Path) -> None:
    lock = open_lock(tmp_path / "lock")
    assert try_lock(lock)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[lock]
    ) as child:
        os.close(lock)
        other = open_lock(tmp_path / "lock")
        assert not try_lock(other)
        child.communicate()
        assert try_lock(other)
        os.close(other)


def test_what_a_killed_process_left_of_a_write_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dying = """
import os, sys
from pathlib import Path
from mien.atomic import _temporary
with _temporary(Path(sys.argv[1]), b"x", 0o600):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", dying, str(tmp_path / "keys.json")], check=False)
    others = {".keys.json", ".keys.json.12345678", "keys.json.1.0123abcd", f".keys.json.{os.getpid()}.0123abcd"}
    for name in others:
        (tmp_path / name).write_text("mine")
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == others
