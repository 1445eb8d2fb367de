"""Archives and manifests that are made to break what reads them: AppInvalid with a reason, before memory is taken."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.apps.archive import unpack
from mien.apps.manifest import read_manifest
from mien.errors import AppInvalid

MiB = 1024 * 1024


def tarred(*members: tuple[tarfile.TarInfo, bytes], pax: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, pax_headers=pax or {}) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def member(name: str = "inference.py", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.pax_headers = {key.replace("_", "."): value for key, value in pax.items()}
    return info


def sparse(**headers: str) -> bytes:
    return tarred((member(**{f"GNU_sparse_{key}": value for key, value in headers.items()}), b"not a number\n" * 100))


def header_of(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def zipped(count: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(count):
            archive.writestr(str(number), b"")
    return packed.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        lambda: sparse(major="1", minor="0"),
        lambda: sparse(major="1", minor="0", realsize="x"),
        lambda: sparse(map="1,x,3"),
        lambda: sparse(size="-1"),
        lambda: gzip.compress(header_of(tarfile.GNUTYPE_LONGNAME, 64 * MiB) + bytes(64 * MiB)),
        lambda: gzip.compress(header_of(tarfile.XHDTYPE, 64 * MiB) + bytes(64 * MiB)),
        lambda: header_of(tarfile.XHDTYPE, 2**33),
        lambda: zipped(3)[:-30] + b"\xff" * 30,
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, archive: Callable[[], bytes]) -> None:
    (tmp_path / "archive").write_bytes(archive())
    with pytest.raises(AppInvalid, match=r"archive|zip nor a tar"):
        unpack(tmp_path / "archive", tmp_path / "app", max_files=100, max_bytes=4 * MiB)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_header_is_not_read_beyond_a_limit_not_even_the_first(
    tmp_path: Path, kind: bytes, packed: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "archive").write_bytes(packed(header_of(kind, 4 * MiB) + bytes(4 * MiB)))
    with pytest.raises(AppInvalid, match="a header is too large"):
        unpack(tmp_path / "archive", tmp_path / "app", max_files=100, max_bytes=16 * MiB)


def test_a_tar_is_not_unpacked_beyond_the_limit_whatever_its_headers_say(tmp_path: Path) -> None:
    """A compressed tar of nothing but padding: a few kilobytes that would be gigabytes."""
    (tmp_path / "archive").write_bytes(gzip.compress(tarred((member("x"), bytes(8 * MiB)))))
    with pytest.raises(AppInvalid, match="MIEN_APP_MAX_BYTES"):
        unpack(tmp_path / "archive", tmp_path / "app", max_files=10, max_bytes=MiB)


def test_entries_of_a_zip_are_counted_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped(200))
    with pytest.raises(AppInvalid, match="more than 10 files"):
        unpack(tmp_path / "archive", tmp_path / "app", max_files=10, max_bytes=MiB)


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_whole_archive_is_unpacked(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    (tmp_path / "archive").write_bytes(packed(tarred((member("app/inference.py"), b"class App: ..."))))
    folder = unpack(tmp_path / "archive", tmp_path / "app", max_files=10, max_bytes=MiB)
    assert (folder / "inference.py").read_bytes() == b"class App: ..."


LEVELS = "\n".join(f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 9)}]" for number in range(1, 9))
MERGES = "\n".join(f"l{number}: &l{number} {{<<: [{', '.join([f'*l{number - 1}'] * 9)}]}}" for number in range(1, 9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: " + "[" * 20_000, "nested more than"),
        ("a: " * 1 + "{a: " * 20_000, "nested more than"),
        (f"name: x\nl0: &l0 [x]\n{LEVELS}", "aliases"),
        (f"name: x\nl0: &l0 {{k: v}}\n{MERGES}", "aliases"),
        ("name: x\ngrace: " + "9" * 5000, "cannot be"),
        ("name: x\ndescription: 2030-99-99", "cannot be"),
        ("name: x\nsecrets: 5", "secrets"),
        ("name: x\nsecrets: [[x]]", "secrets"),
        ("name: [[[[[[[x]]]]]]]", "name"),
        ("name: " + "x" * 200_000 + "!", "name"),
    ],
)
def test_a_hostile_manifest_is_refused_in_few_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "inf.yml").write_text(text)
    with pytest.raises(AppInvalid, match=words) as refused:
        read_manifest(tmp_path)
    assert len(refused.value.message) < 1000


def test_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "inf.yml").write_text("name: x\nenv: &env {A: b}\nvariants: {large: {env: *env}}")
    assert read_manifest(tmp_path).variants["large"].env == {"A": "b"}
