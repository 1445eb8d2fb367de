"""Places that settings name are looked at before the server starts."""

import os
from pathlib import Path
from typing import Any

import pytest

from mien.errors import InvalidSettings
from mien.places import place_problems, require_places
from mien.settings import Provenance, Settings


def problems(tmp_path: Path, **given: Any) -> list[str]:
    given = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", **given}
    return place_problems(Settings(**given), Provenance(given))


def given(name: str, place: Path) -> Any:
    """The place as a value of the setting."""
    return [place] if name.endswith("dirs") else place


def test_what_will_be_created_need_not_be_there(tmp_path: Path) -> None:
    assert problems(tmp_path, data_dir=tmp_path / "a" / "b" / "c") == []


@pytest.mark.parametrize("name", ["images_root", "manifests_dir", "app_input_dirs", "app_output_dirs"])
def test_a_folder_that_is_only_read_must_be_there(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.touch()
    assert problems(tmp_path, **{name: given(name, tmp_path)}) == []
    for wrong in (tmp_path / "missing", file, file / "below"):
        assert problems(tmp_path, **{name: given(name, wrong)}) == [f"{name}: there is no directory {wrong}"]


def test_a_constraints_file_must_be_there(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing.txt", tmp_path):
        assert problems(tmp_path, app_constraints=wrong) == [f"app_constraints: there is no file {wrong}"]
    (tmp_path / "there.txt").touch()
    assert problems(tmp_path, app_constraints=tmp_path / "there.txt") == []


@pytest.mark.parametrize("name", ["data_dir", "cache_dir"])
def test_a_folder_cannot_be_where_a_file_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.touch()
    for wrong in (file, file / "below" / "it"):
        assert problems(tmp_path, **{name: wrong}) == [f"{name}: {wrong} cannot be created: {file} is not a directory"]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "missing")
    assert problems(tmp_path, **{name: link}) == [f"{name}: {link} cannot be created: {link} is not a directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_data_folder_must_be_writable_but_a_filled_cache_need_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert problems(tmp_path, data_dir=tmp_path) == [
        f"data_dir: the directory {tmp_path} cannot be written by this user"
    ]
    assert problems(tmp_path, data_dir="/tmp", cache_dir=tmp_path) == []
    tmp_path.chmod(0o700)


def test_the_place_is_named_as_it_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_IMAGES_ROOT", str(tmp_path / "missing"))
    given = {"data_dir": tmp_path, "cache_dir": tmp_path}
    with pytest.raises(InvalidSettings, match=r"^MIEN_IMAGES_ROOT: there is no directory"):
        require_places(Settings(**given), Provenance(given))
