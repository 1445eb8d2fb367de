"""Faces as records: JSON with a line for each image, CSV with a row for each face. Reading them back."""

import csv
import io
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from mien.errors import RequestError
from mien.faces.pipeline import Face
from mien.library.search import FolderImage
from mien.library.walk import ImageFile

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
FACE_COLUMNS = (
    *("face", "score", "x1", "y1", "x2", "y2"),
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
    *("quality", "roll", "yaw", "pitch", "age", "gender", "mask"),
)
COLUMNS = ("path", "bytes", "modified", "width", "height", "faces", *FACE_COLUMNS, "error", "made_by")
GENDERS = {0: "female", 1: "male"}
_FORMULA = "=+-@\t\r\n＝＋－＠"
"""What spreadsheets take for the start of a formula, which could do anything."""
_URI = "file:///"


@dataclass(frozen=True, slots=True)
class Record:
    """What a file of records says of one image, and where in the file."""

    start: int
    end: int
    path: Path
    state: tuple[int, str]
    """The image file's size and its time of change, as they are written."""
    made_by: str
    failed: bool


class Records(Protocol):
    """A format of records."""

    header: bytes

    def render(self, image: FolderImage) -> bytes:
        """The image's whole lines."""
        ...

    def read(self, file: BinaryIO) -> Iterator[Record]:
        """The complete records, from the start. One that was cut off at the end is left out.

        Raises RequestError for anything else.
        """
        ...


def state_of(file: ImageFile) -> tuple[int, str]:
    """Size and time of change as records have them."""
    seconds, rest = divmod(file.modified_ns, 10**9)
    try:
        return file.bytes, f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError, OSError):  # file systems keep years that calendars do not
        return file.bytes, f"{seconds}.{rest:09d}"


def path_text(path: Path) -> str:
    """The path as text; as a `file:` URI if it is not UTF-8, so that it can be opened nevertheless."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return text


def text_path(text: str) -> Path:
    """The path that `path_text` wrote."""
    if text.startswith(_URI):
        return Path(os.fsdecode(urllib.parse.unquote_to_bytes(text.removeprefix("file://"))))
    return Path(text)


class JsonRecords:
    """One JSON object per image and line."""

    header = b""

    def __init__(self, made_by: str | None = None) -> None:
        """`made_by`: say for each image which file, with which models and options; None: only its path."""
        self._made_by = made_by

    def render(self, image: FolderImage) -> bytes:
        """See Records.render."""
        body: dict[str, Any] = {"path": path_text(image.path)}
        if self._made_by is not None and image.file is not None:
            size, modified = state_of(image.file)
            body |= {"bytes": size, "modified": modified, "made_by": self._made_by}
        if image.error is not None:
            body["error"] = {"code": image.error.code, "message": image.error.message}
        else:
            faces = [_face_json(face) for face in image.faces]
            body |= {"width": image.width, "height": image.height, "faces": faces}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def read(self, file: BinaryIO) -> Iterator[Record]:
        """See Records.read."""
        start = 0
        for number, line in enumerate(file, 1):
            end = start + len(line)
            record = _json_record(line, start, end)
            if record is not None:
                yield record
            elif file.read(1):
                raise RequestError(f"line {number} was not written by mien faces --json --output")
            start = end


def _json_record(line: bytes, start: int, end: int) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        body = orjson.loads(line)
        state = body.get("bytes", 0), body.get("modified", "")
        made_by = body["made_by"] if "faces" in body else ""
        return Record(start, end, text_path(body["path"]), state, made_by, "error" in body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class CsvRecords:
    """One row per face. An image without faces, or that failed, has one row without a face."""

    header = (",".join(f'"{column}"' for column in COLUMNS) + "\n").encode()

    def __init__(self, made_by: str) -> None:
        self._made_by = made_by

    def render(self, image: FolderImage) -> bytes:
        """See Records.render."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        size, modified = ("", "") if image.file is None else state_of(image.file)
        common = {"path": _cell(image.path), "bytes": size, "modified": modified, "made_by": self._made_by}
        if image.error is not None:
            writer.writerow(common | {"error": f"{image.error.code}: {image.error.message}"})
        else:
            common |= {"width": image.width, "height": image.height, "faces": len(image.faces)}
            for number in range(max(1, len(image.faces))):
                row = _face_row(number + 1, image.faces[number]) if image.faces else {}
                writer.writerow(common | row)
        return text.getvalue().encode(errors="backslashreplace")

    def read(self, file: BinaryIO) -> Iterator[Record]:
        """See Records.read."""
        rows = _rows(file)
        first = next(rows, None)
        if first is None or tuple(first[2]) != COLUMNS:
            raise RequestError("its first line is not that of mien faces --csv")
        start = first[1]
        group: list[dict[str, str]] = []  # rows of one image so far
        for _, end, cells in rows:
            row = dict(zip(COLUMNS, cells, strict=False))
            group.append(row)
            if len(cells) != len(COLUMNS) or row["path"] != group[0]["path"]:
                raise RequestError(f"the row of {cells[0][:200]!r} was written or moved by something else")
            if len(group) >= _number(row["faces"]):
                state = _number(row["bytes"]), row["modified"]
                yield Record(start, end, text_path(row["path"]), state, row["made_by"], bool(row["error"]))
                start, group = end, []


def _number(text: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise RequestError(f"expected a whole number, found {text[:50]!r}") from None


def _rows(file: BinaryIO) -> Iterator[tuple[int, int, list[str]]]:
    """Each whole row with its start and end. Names of files can hold line breaks, so a row can have several lines."""
    end = 0
    whole = True

    def lines() -> Iterator[str]:
        nonlocal end, whole
        for line in file:
            end += len(line)
            whole = line.endswith(b"\n")
            yield line.decode(errors="replace")

    reader = csv.reader(lines(), strict=True)
    start = 0
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if file.read(1):
                raise RequestError(f"it is no CSV: {error}") from None
            return
        if cells is None or not whole:
            return
        yield start, end, cells
        start = end


def _cell(path: Path) -> str:
    """The path, so that no spreadsheet takes it for a formula: `./` in front changes no relative path."""
    text = path_text(path)
    return f"./{text}" if text.startswith(tuple(_FORMULA)) else text


def _face_json(face: Face) -> dict[str, Any]:
    traits = face.attributes
    asked = {"quality": face.quality, "pose": face.pose, "landmarks_68": face.landmarks_68}
    return {
        "box": face.box,
        "score": face.score,
        "landmarks": face.landmarks,
        "vector": face.vector,
        "age": traits.age,
        "gender": traits.gender,
        "mask": traits.mask,
        **{name: value for name, value in asked.items() if value is not None},
    }


def _face_row(number: int, face: Face) -> dict[str, Any]:
    traits, pose = face.attributes, face.pose
    numbers = [face.score, *face.box.tolist(), *face.landmarks.reshape(-1).tolist()]
    values = [
        number,
        *(_rounded(value) for value in numbers),
        *(_rounded(value) for value in (face.quality, *((pose.roll, pose.yaw, pose.pitch) if pose else [None] * 3))),
        _rounded(traits.age),
        "" if traits.gender is None else GENDERS[traits.gender],
        "" if traits.mask is None else ("yes" if traits.mask else "no"),
    ]
    return dict(zip(FACE_COLUMNS, values, strict=True))


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(float(value), 3)
