"""Images by path stay under their root."""

import os
from pathlib import Path

import pytest

from mien.errors import ImageError, ImageTooLarge, SourceFailed, SourceNotFound, SourceRefused
from mien.net.paths import read_under


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "images"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "face.jpg").write_bytes(b"face")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (tmp_path / "images2").mkdir()
    (tmp_path / "images2" / "other.jpg").write_bytes(b"other")
    return top


@pytest.mark.parametrize("path", ["sub/face.jpg", "./sub/face.jpg", "sub//face.jpg"])
def test_files_under_the_root_are_read(root: Path, path: str) -> None:
    assert read_under(root, path, 100) == b"face"


def test_without_a_root_the_error_says_how_to_turn_paths_on() -> None:
    with pytest.raises(SourceRefused, match="MIEN_IMAGES_ROOT"):
        read_under(None, "a.jpg", 100)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret.txt",
        "sub/../../secret.txt",
        "sub/../sub/face.jpg",
        "",
        ".",
        "a\0b",
        "..\\secret.txt",
        "C:/x",
        "~/x",
        "//host/share",
    ],
)
def test_paths_that_could_lead_out_are_refused(root: Path, path: str) -> None:
    with pytest.raises(SourceRefused):
        read_under(root, path, 100)


def test_absolute_paths_below_the_root_are_read_by_either_name_of_it(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    for top in (root, link):
        for name in (root, link) if top == link else (root,):
            assert read_under(top, f"{name}/sub/face.jpg", 100) == b"face"
            assert read_under(top, f"/{name}//sub/./face.jpg", 100) == b"face"


def test_an_absolute_path_to_no_file_is_the_same_error_below_the_root_and_elsewhere(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret.txt")

    def error(path: str, kind: type[ImageError]) -> str:
        with pytest.raises(kind) as caught:
            read_under(root, path, 100)
        return caught.value.message.replace(path, "PATH")

    inside = error(f"{root}/none.jpg", SourceRefused)
    for path in ("/etc/passwd", f"{root}2/other.jpg", f"{root.parent}/secret.txt", f"{root}/sub/face.jpg/x"):
        assert error(path, SourceRefused) == inside
    for path in (f"{root}/../secret.txt", f"{root}/sub/../../secret.txt", f"{root}/out", str(root), f"{root}/sub"):
        error(path, SourceRefused)


def test_links_out_of_the_root_are_refused_and_links_inside_are_read(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret.txt")
    (root / "outdir").symlink_to(root.parent / "images2")
    (root / "in.jpg").symlink_to("sub/face.jpg")
    assert read_under(root, "in.jpg", 100) == b"face"
    for path in ("out", "outdir/other.jpg"):
        with pytest.raises(SourceRefused):
            read_under(root, path, 100)


def test_a_root_that_is_itself_a_link_works(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert read_under(link, "sub/face.jpg", 100) == b"face"


def test_a_named_pipe_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(SourceRefused, match="not a regular file"):
        read_under(root, "pipe", 100)


def test_a_folder_is_refused(root: Path) -> None:
    with pytest.raises(SourceRefused, match="not a regular file"):
        read_under(root, "sub", 100)


def test_files_over_the_limit_are_refused_by_their_size(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ImageTooLarge):
        read_under(root, "huge", 10**6)
    assert read_under(root, "sub/face.jpg", 4) == b"face"


def test_a_link_that_is_put_in_place_after_the_check_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Path.resolve

    def resolve_then_swap(self: Path, strict: bool = False) -> Path:
        found = honest(self, strict=strict)
        if self.name == "face.jpg":
            self.unlink()
            self.symlink_to(root.parent / "secret.txt")
        return found

    monkeypatch.setattr(Path, "resolve", resolve_then_swap)
    with pytest.raises(SourceFailed):
        read_under(root, "sub/face.jpg", 100)


@pytest.mark.parametrize("path", ["none.jpg", "sub/none.jpg", "sub/face.jpg/x", "x" * 300])
def test_errors_never_tell_where_the_root_is(root: Path, path: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_under(root, path, 100)
    assert str(root) not in caught.value.message
    if len(path) < 100:
        assert isinstance(caught.value, SourceNotFound)


def test_links_in_circles_are_an_error(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(ImageError):
        read_under(root, "a", 100)
