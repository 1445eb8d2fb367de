"""Members of archives end where we say, whatever the archive says."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mien.errors import ModelCorrupt
from mien.zoo.archive import extract_member, extract_tree, is_inside

EVIL = ["../evil.onnx", "/etc/evil.onnx", "a/../../evil.onnx", "..\\evil.onnx", "C:evil.onnx"]


def make_zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"weights")
    return path


def make_tar(path: Path, info: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info.size = 7 if info.isreg() else 0
        archive.addfile(info, io.BytesIO(b"weights"))
    return path


@pytest.mark.parametrize("name", [*EVIL, "packs/model.onnx"])
def test_a_member_is_written_to_the_target_only(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", name)
    member = zipfile.ZipFile(archive).namelist()[0]
    target = extract_member(archive, member, tmp_path / "inner" / "model.onnx")
    assert target.read_bytes() == b"weights"
    assert {path.name for path in tmp_path.rglob("*")} == {"a.zip", "inner", "model.onnx"}


@pytest.mark.parametrize("name", EVIL)
def test_a_tree_with_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    assert not is_inside(name)
    with pytest.raises(ModelCorrupt, match="unsafe name"):
        extract_tree(make_zip(tmp_path / "a.zip", name), tmp_path / "tree")


def test_a_member_of_a_tar_is_read_and_a_link_is_refused(tmp_path: Path) -> None:
    plain = make_tar(tmp_path / "a.tgz", tarfile.TarInfo("package/model.onnx"))
    assert extract_member(plain, "package/model.onnx", tmp_path / "m").read_bytes() == b"weights"
    link = tarfile.TarInfo("package/model.onnx")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(ModelCorrupt, match="not a file"):
        extract_member(make_tar(tmp_path / "b.tgz", link), "package/model.onnx", tmp_path / "n")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no zip", b"\x1f\x8b no gzip"])
def test_a_damaged_archive_is_reported(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(damage)
    with pytest.raises(ModelCorrupt, match=r"a\.zip"):
        extract_member(tmp_path / "a.zip", "model.onnx", tmp_path / "m")


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match=r"other\.onnx"):
        extract_member(make_zip(tmp_path / "a.zip", "model.onnx"), "other.onnx", tmp_path / "m")
