"""Records of faces: what is written can be read back, also where the writer was killed, and by programs."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.cli.face_outputs import opened_lines
from mien.cli.face_records import COLUMNS, CsvRecords, JsonRecords, Records, path_text, text_path
from mien.cli.face_resume import resume
from mien.errors import ImageTruncated, RequestError, SourceNotFound
from mien.faces.pipeline import Face
from mien.library.search import FolderImage
from mien.library.walk import ImageFile
from mien.vision.attributes import Attributes
from mien.vision.pose import Pose

FORMATS: list[Records] = [JsonRecords("abc"), CsvRecords("abc")]
NAMES = [b"a.jpg", b"caf\xe9.jpg", b"two\nlines\r.jpg", b'"quoted", and more.jpg', "ünï ☃.jpg".encode(), b"=1+1.jpg"]


def face(score: float = 0.9) -> Face:
    box, points = np.array([1.5, 2, 30, 40.25], np.float32), np.arange(10, dtype=np.float32).reshape(5, 2)
    return Face(0, box, score, points, vector=np.ones(4, np.float32) / 2, attributes=Attributes(age=30.4, gender=0))


def image(path: Path, faces: int = 1) -> FolderImage:
    found = path.stat()
    file = ImageFile(path, found.st_size, found.st_mtime_ns)
    return FolderImage(path, (face(),) * faces, 100, 200, file=file)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)) for name in NAMES]
    for path in found:
        path.write_bytes(b"x" * len(path.name))
    return found


@pytest.mark.parametrize("records", FORMATS)
@pytest.mark.parametrize("faces", [0, 1, 3])
def test_what_was_written_is_done(records: Records, faces: int, paths: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "records"
    target.write_bytes(records.header + b"".join(records.render(image(path, faces)) for path in paths))
    before = target.read_bytes()
    done = resume(target, records, "abc")
    assert all(image(path).file in done for path in paths)
    assert target.read_bytes() == before


@pytest.mark.parametrize("records", FORMATS)
def test_wherever_the_writer_was_killed_whole_records_stay(records: Records, paths: list[Path], tmp_path: Path) -> None:
    parts = [records.render(image(path, 2)) for path in paths[:3]]
    whole = records.header + b"".join(parts)
    target = tmp_path / "records"
    for size in [*range(0, len(whole), 13), *range(len(whole) - 5, len(whole) + 1)]:
        target.write_bytes(whole[:size])
        done = resume(target, records, "abc")
        count = sum(size >= len(records.header) + len(b"".join(parts[: number + 1])) for number in range(3))
        assert len(done) == count
        assert target.read_bytes() == records.header + b"".join(parts[:count])


@pytest.mark.parametrize("records", FORMATS)
def test_failures_and_images_that_changed_are_done_again(records: Records, paths: list[Path], tmp_path: Path) -> None:
    first, second, third, fourth = paths[:4]
    failed = FolderImage(second, error=ImageTruncated("cut"), file=image(second).file)
    gone = FolderImage(tmp_path / "missing.jpg", error=SourceNotFound("no such file"))
    lines = [image(first), failed, gone, image(third), image(fourth)]
    target = tmp_path / "records"
    target.write_bytes(records.header + b"".join(map(records.render, lines)))
    kept = records.header + records.render(lines[0]) + records.render(lines[4])
    third.write_bytes(b"another image")
    done = resume(target, records, "abc")
    assert [image(path).file in done for path in paths[:4]] == [True, False, False, True]
    assert target.read_bytes() == kept
    assert [path.name for path in tmp_path.glob(".records*")] == []


@pytest.mark.parametrize("records", FORMATS)
def test_images_on_a_disk_that_is_not_there_stay_done(records: Records, paths: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "records"
    target.write_bytes(records.header + records.render(image(paths[0])))
    before = target.read_bytes()
    paths[0].unlink()
    assert len(resume(target, records, "abc")) == 1
    assert target.read_bytes() == before


@pytest.mark.parametrize("records", FORMATS)
def test_other_options_are_refused_and_nothing_is_lost(records: Records, paths: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "records"
    target.write_bytes(records.header + records.render(image(paths[0])))
    before = target.read_bytes()
    with pytest.raises(RequestError, match=r"other models or options \(abc; now xyz\)"):
        resume(target, records, "xyz")
    assert target.read_bytes() == before


@pytest.mark.parametrize("records", FORMATS)
@pytest.mark.parametrize("text", ["notes\nof mine\n", '{"a": 1}\n[]\n', '"path","more"\n1,2\n'])
def test_files_of_something_else_are_refused_and_stay(records: Records, text: str, tmp_path: Path) -> None:
    target = tmp_path / "records"
    target.write_text(text)
    with pytest.raises(RequestError, match="cannot be resumed"):
        resume(target, records, "abc")
    assert target.read_text() == text


def test_a_file_that_is_being_written_is_left_alone(paths: list[Path], tmp_path: Path) -> None:
    records = JsonRecords("abc")
    target = tmp_path / "records"
    target.write_bytes(b"")
    with opened_lines(records, target, resumed=True) as lines:
        lines.add(image(paths[0]))
        with pytest.raises(RequestError, match="another command is writing"):
            resume(target, records, "abc")
        with (
            pytest.raises(RequestError, match="another command is writing"),
            opened_lines(records, target, resumed=True),
        ):
            pass
    assert len(resume(target, records, "abc")) == 1


def test_a_csv_that_was_sorted_by_something_else_is_refused(paths: list[Path], tmp_path: Path) -> None:
    records = CsvRecords("abc")
    first, second = (records.render(image(path, 2)).splitlines(keepends=True) for path in (paths[0], paths[3]))
    target = tmp_path / "records"
    target.write_bytes(records.header + first[0] + second[0] + first[1] + second[1])
    with pytest.raises(RequestError, match="written or moved by something else"):
        resume(target, records, "abc")
    target.write_bytes(records.header + first[0].replace(b",100,200,2,", b',100,200,"two",'))
    with pytest.raises(RequestError, match="a whole number, found 'two'"):
        resume(target, records, "abc")


def test_json_is_one_object_per_line_whatever_the_name(paths: list[Path]) -> None:
    for path in paths:
        line = JsonRecords().render(image(path)).decode()
        assert line.count("\n") == 1
        body = json.loads(line)
        assert text_path(body["path"]) == path
        assert list(body) == ["path", "width", "height", "faces"]


def test_what_was_not_asked_for_is_not_there(paths: list[Path]) -> None:
    (found,) = json.loads(JsonRecords().render(image(paths[0])))["faces"]
    assert list(found) == ["box", "score", "landmarks", "vector", "age", "gender", "mask"]
    asked = replace(face(), quality=0.5, pose=Pose(-3.25, 10, None))
    (found,) = json.loads(JsonRecords().render(replace(image(paths[0]), faces=(asked,))))["faces"]
    assert found["quality"] == 0.5
    assert found["pose"] == {"roll": -3.25, "yaw": 10, "pitch": None}
    text = CsvRecords("abc").header + CsvRecords("abc").render(replace(image(paths[0]), faces=(asked,)))
    (row,) = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert [row[name] for name in ("quality", "roll", "yaw", "pitch")] == ["0.5", "-3.25", "10.0", ""]


def test_a_name_that_is_not_utf_8_is_a_uri(paths: list[Path]) -> None:
    assert path_text(paths[1]).startswith("file:///")
    assert path_text(paths[1]).endswith("/caf%E9.jpg")
    assert path_text(paths[4]) == str(paths[4])


def test_csv_has_a_row_for_each_face(paths: list[Path]) -> None:
    records = CsvRecords("abc")
    text = records.header + records.render(image(paths[0], 2)) + records.render(image(paths[2], 0))
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["faces"], row["face"], row["x1"], row["gender"]) for row in rows] == [
        ("2", "1", "1.5", "female"),
        ("2", "2", "1.5", "female"),
        ("0", "", "", ""),
    ]
    assert [row["path"] for row in rows] == [str(paths[0]), str(paths[0]), str(paths[2])]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_no_cell_of_a_csv_starts_a_formula(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"{start}cmd|' calc'!A0;=1.jpg")
    path.touch()
    failed = FolderImage(path, error=ImageTruncated(f"{start}cut"), file=image(path).file)
    for shown in (image(path), failed):
        (row,) = csv.reader(io.StringIO(CsvRecords("abc").render(shown).decode(), newline=""))
        assert not any(cell.startswith(start) for cell in row)
        assert text_path(row[0]).samefile(path)
