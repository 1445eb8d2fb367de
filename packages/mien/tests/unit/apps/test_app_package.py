from pathlib import Path

import pytest

from mien.apps.manifest import Resources, Variant, read_manifest
from mien.apps.package import PackageLimits, copy_package, read_package
from mien.errors import AppInvalid

LIMITS = PackageLimits()


def write(folder: Path, **files: str) -> Path:
    for name, text in {"inference_py": "class App: ...\n", **files}.items():
        path = folder / name.replace("__", "/").replace("_py", ".py").replace("_yml", ".yml").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def version_of(folder: Path, target: Path) -> str:
    return copy_package(read_package(folder, LIMITS), target)


def test_a_version_is_the_content(tmp_path: Path) -> None:
    one = write(tmp_path / "one", lib__more_py="x = 1\n")
    two = write(tmp_path / "two", lib__more_py="x = 1\n")
    assert version_of(one, tmp_path / "copy1") == version_of(two, tmp_path / "copy2")
    (two / "lib" / "more.py").write_text("x = 2\n")
    assert version_of(two, tmp_path / "copy3") != version_of(one, tmp_path / "copy4")
    assert (tmp_path / "copy3" / "lib" / "more.py").read_text() == "x = 2\n"


def test_files_that_are_not_part_of_an_app_are_omitted(tmp_path: Path) -> None:
    folder = write(tmp_path / "app")
    before = version_of(folder, tmp_path / "copy1")
    for name in (".git/config", "__pycache__/a.pyc", ".venv/bin/python", "b.pyc", "lib/__pycache__/c.pyc"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert version_of(folder, tmp_path / "copy2") == before


def test_an_executable_stays_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", tool="#!/bin/sh\n")
    before = version_of(folder, tmp_path / "copy1")
    (folder / "tool").chmod(0o755)
    assert version_of(folder, tmp_path / "copy2") != before
    assert (tmp_path / "copy2" / "tool").stat().st_mode & 0o100


def test_links_within_the_folder_become_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", a_txt="text")
    (folder / "link.txt").symlink_to("a.txt")
    version_of(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "link.txt").is_symlink()
    assert (tmp_path / "copy" / "link.txt").read_text() == "text"


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.txt"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    folder = write(tmp_path / "app")
    (folder / "link").symlink_to(target)
    with pytest.raises(AppInvalid, match="link to a path outside"):
        read_package(folder, LIMITS)


def test_limits_are_enforced_before_anything_is_copied(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", a_txt="x" * 1000)
    with pytest.raises(AppInvalid, match="more than 1 files"):
        read_package(folder, PackageLimits(files=1))
    with pytest.raises(AppInvalid, match="more than 500 bytes"):
        read_package(folder, PackageLimits(bytes=500))


def test_a_folder_without_inference_is_not_an_app(tmp_path: Path) -> None:
    with pytest.raises(AppInvalid, match=r"inference\.py"):
        read_package(tmp_path, LIMITS)
    with pytest.raises(AppInvalid, match="is not a folder"):
        read_package(tmp_path / "nothing", LIMITS)


def test_system_packages_are_only_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", packages_txt="ffmpeg\n# a comment\n\nlibgl1  # for cv2\n")
    assert read_package(folder, LIMITS).packages == ("ffmpeg", "libgl1")


def test_variants_fill_in_from_the_app(tmp_path: Path) -> None:
    (tmp_path / "inf.yml").write_text(
        "name: Hello\nkernel: python-3.12\nenv: {A: 1, B: x}\nresources: {gpu: {count: 1, vram: 24}, ram: 2GiB}\n"
        "secrets: [KEY, {key: OTHER, optional: true}]\n"
        "variants: {small: {env: {B: y}, resources: {gpu: {count: 0}, ram: 1GiB}}}\n"
    )
    manifest = read_manifest(tmp_path)
    assert manifest.name == "hello"
    assert [(secret.key, secret.optional) for secret in manifest.secrets] == [("KEY", False), ("OTHER", True)]
    assert manifest.variant("default") == Variant("", Resources(1, 24 * 10**9, 2 << 30), {"A": "1", "B": "x"}, "3.12")
    assert manifest.variant("small") == Variant("", Resources(0, 0, 1 << 30), {"A": "1", "B": "y"}, "3.12")
    assert manifest.variant("large") is None


@pytest.mark.parametrize("text", ["name: [", "name: a/b", "name: a\nkernel: node-22", "- a", "name: a\nsecrets: [{}]"])
def test_an_invalid_manifest_is_rejected_with_the_reason(tmp_path: Path, text: str) -> None:
    (tmp_path / "inf.yml").write_text(text)
    with pytest.raises(AppInvalid, match=r"inf\.yml"):
        read_manifest(tmp_path)
