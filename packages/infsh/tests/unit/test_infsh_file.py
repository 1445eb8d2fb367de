"""`File` from paths, URIs, dicts and other files; its metadata; its place in models."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from infsh import BaseAppInput, BaseAppOutput, File, FileUnavailable

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    return path


def test_a_path_is_made_absolute_and_described(image, monkeypatch):
    monkeypatch.chdir(image.parent)
    file = File(path="image.png")
    assert (file.path, file.content_type, file.size, file.filename) == (str(image), "image/png", 28, "image.png")
    assert file.exists()
    assert file.is_local
    assert file.uri is None


@pytest.mark.parametrize("make", [File, File.from_path, lambda p: File(uri=p), lambda p: File(f"file://{quote(p)}")])
def test_a_path_may_be_given_as_uri(make, image):
    spaced = image.with_name("an image.png")
    image.rename(spaced)
    assert make(str(spaced)).path == str(spaced)
    assert make(str(spaced)).content_type == "image/png"


def test_path_objects_files_and_dicts_are_taken(image):
    file = File(image, filename="given.jpg")
    assert File(file) == file
    assert File(file).filename == "given.jpg"
    assert File({"path": str(image), "filename": "given.jpg", "id": 7}) == file
    assert File(path=image, upload_url="ignored").size == 28


def test_what_is_given_stays_when_metadata_is_refreshed(image):
    file = File(path=image, content_type="x/y", filename="n", size=1)
    plain = File(path=image)
    image.write_bytes(PNG * 2)
    for each in (file, plain):
        each.refresh_metadata()
    assert (file.content_type, file.filename, file.size) == ("x/y", "n", 1)
    assert (plain.content_type, plain.filename, plain.size) == ("image/png", "image.png", 56)


def test_metadata_can_be_set(image):
    file = File("nowhere.bin")
    file.path = image
    assert file.size == 28
    file.content_type, file.filename, file.size = "a/b", "c", 3
    file.refresh_metadata()
    assert (file.content_type, file.filename, file.size) == ("a/b", "c", 3)


def test_a_file_that_is_not_there_has_no_metadata(tmp_path):
    file = File(path=tmp_path / "absent.png")
    assert not file.exists()
    assert (file.content_type, file.size, file.filename) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (b"\0\0\0\x18ftypavif", "image/avif"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b' {"a": 1}', "application/json"),
        (b"<!doctype html>", "text/html"),
        (b"<?xml version='1'?><svg/>", "image/svg+xml"),
        ("grüße".encode() * 100, "text/plain"),
        (b"\x00\x01\x02", None),
        (b"", None),
    ],
)
def test_the_type_is_sniffed_if_the_name_implies_none(content, content_type, tmp_path):
    path = tmp_path / "thing"
    path.write_bytes(content)
    assert File(path=path).content_type == content_type


@pytest.mark.parametrize("value", [None, "", {}, {"filename": "a"}])
def test_none_is_not_a_file(value):
    with pytest.raises(ValueError, match="Either 'uri' or 'path' must be provided"):
        File(value)


@pytest.mark.parametrize("value", [123, 1.5, [], b"bytes"])
def test_other_values_are_not_files(value):
    with pytest.raises(ValueError, match="Invalid input for File"):
        File(value)


@pytest.mark.parametrize("fields", [{"uri": 1}, {"path": "a", "size": "big"}, {"path": "a", "size": True}])
def test_a_field_of_a_wrong_type_is_named(fields):
    with pytest.raises(ValueError, match=r"Invalid (uri|size) for File"):
        File(**fields)


# --- data: URIs


@pytest.mark.parametrize(
    ("uri", "content", "content_type", "filename"),
    [
        ("data:text/plain;base64,aGVsbG8=", b"hello", "text/plain", None),
        ("data:text/plain;charset=utf-8;base64,aGVsbG8", b"hello", "text/plain", None),
        ("data:image/png;name=a%20b.png;base64,-_-_", b"\xfb\xff\xbf", "image/png", "a b.png"),
        ('data:image/png;filename="../../x.png";base64,AAAA', b"\0\0\0", "image/png", "../../x.png"),
        ("data:,a%20b%E2%82%AC", "a b€".encode(), "text/plain", None),
        ("data:;base64,aGVs%0AbG8%3D", b"hello", "text/plain", None),
        ("DATA:application/json,{}", b"{}", "application/json", None),
        ("data:text/html,<p>1, 2</p>", b"<p>1, 2</p>", "text/html", None),
    ],
)
def test_data_uris_are_decoded(uri, content, content_type, filename, cache):
    file = File(uri)
    assert not file.is_local
    assert file.content_type == content_type
    assert file.filename == filename
    assert Path(file.path).read_bytes() == content
    assert Path(file.path).is_relative_to(cache)
    assert (file.size, file.content_type) == (len(content), content_type)
    assert file.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(content=st.binary(max_size=50), safe=st.booleans(), padded=st.booleans())
def test_any_bytes_survive_a_data_uri(content, safe, padded, cache):
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(content).decode()
    assert Path(File(f"data:a/b;base64,{text if padded else text.rstrip('=')}").path).read_bytes() == content
    assert Path(File(f"data:a/b,{quote(content)}").path).read_bytes() == content


@pytest.mark.parametrize(("uri", "said"), [("data:text/plain;base64", "comma"), ("data:a/b;base64,?", "base64")])
def test_an_invalid_data_uri_is_reported(uri, said):
    file = File(uri)
    assert not file.exists()
    with pytest.raises(FileUnavailable, match=said):
        _ = file.path


def test_a_foreign_scheme_is_not_a_path():
    file = File("inf://somewhere/x.png")
    assert not file.exists()
    with pytest.raises(FileUnavailable, match="inf: URI"):
        _ = file.path


# --- models


class Images(BaseAppInput):
    first: File
    second: File | None = None
    many: list[File] = []  # noqa: RUF012  # pydantic copies it


def test_a_field_takes_whatever_makes_a_file(image):
    images = Images(first=str(image), second={"uri": "https://h/b.png"}, many=[{"path": str(image)}])
    assert images.first.size == 28
    assert (images.second.uri, images.second.filename, images.second.content_type) == (
        "https://h/b.png",
        "b.png",
        "image/png",
    )
    assert images.many == [File(path=image)]


@pytest.mark.parametrize("absent", ["", {}, None])
def test_an_optional_file_may_be_empty(absent, image):
    assert Images(first=str(image), second=absent).second is None
    with pytest.raises(ValidationError, match="Either 'uri' or 'path'"):
        Images(first=absent)


def test_a_file_is_written_without_nulls(image):
    class Output(BaseAppOutput):
        image: File

    expected = {"path": str(image), "content_type": "image/png", "size": 28, "filename": "image.png"}
    assert Output(image=File(path=image)).model_dump() == {"image": expected, "output_meta": None}
    assert Output.model_validate_json(Output(image=File(path=image)).model_dump_json()).image == File(path=image)
    assert File(path=image).to_dict() == expected
    assert File("https://h/x").to_dict() == {"uri": "https://h/x", "filename": "x"}


def test_the_schema_takes_a_string_or_an_object():
    class Input(BaseModel):
        image: File

    schema = Input.model_json_schema()["properties"]["image"]
    assert [item["type"] for item in schema["oneOf"]] == ["string", "object"]
    assert schema["oneOf"][0]["format"] == "file"


def test_repr_is_short():
    assert len(repr(File("data:text/plain," + "x" * 10_000))) < 300


async def test_ensure_leaves_local_files_alone(image):
    file = File(image)
    assert await file.ensure() is file
    image.unlink()
    assert await file.ensure() is file
