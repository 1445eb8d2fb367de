"""Where `mien faces` puts what it finds: tables, records, drawn images, contact sheets."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
from rich.markup import escape
from rich.table import Table

from mien.atomic import replace_file
from mien.cli.face_records import Records
from mien.cli.face_resume import require_alone
from mien.cli.output import err, out
from mien.cli.whole_lines import WholeLines
from mien.errors import RequestError
from mien.faces.pipeline import Face, detections_of
from mien.library.search import FolderImage
from mien.net.paths import read_anywhere
from mien.settings import Settings
from mien.vision.contact_sheet import Page
from mien.vision.draw import draw_detections, encode_jpeg
from mien.vision.image import decode
from mien.vision.pose import Pose
from mien.vision.types import Image

PAGE_TYPES = (".jpg", ".jpeg", ".png")


class FaceOutput(Protocol):
    """Takes one image after the other."""

    def add(self, image: FolderImage) -> None:
        """One more image, with its faces or its error. Raises OSError."""
        ...

    def close(self) -> None:
        """There are no more images."""
        ...


class Tables:
    """A table for each image, on stdout."""

    def add(self, image: FolderImage) -> None:
        """See FaceOutput."""
        out.print(_table(image), soft_wrap=image.error is not None)

    def close(self) -> None:
        """See FaceOutput."""


class Lines:
    """Records on stdout or at the end of a file."""

    def __init__(self, records: Records, lines: WholeLines) -> None:
        self._records = records
        self._lines = lines

    def add(self, image: FolderImage) -> None:
        """See FaceOutput."""
        self._lines.write(self._records.render(image))

    def close(self) -> None:
        """See FaceOutput."""


@contextmanager
def opened_lines(records: Records, target: Path | None, *, resumed: bool) -> Iterator[Lines]:
    """Records on stdout, or in the file `target`, which is new unless it is `resumed`. Raises RequestError, OSError."""
    if target is None:
        sys.stdout.flush()
        with WholeLines(sys.stdout.buffer) as lines:
            if records.header:
                lines.write(records.header)
            yield Lines(records, lines)
        return
    try:
        file = target.open("ab" if resumed else "xb")
    except FileExistsError:
        raise RequestError(f"{target} exists; --resume goes on with it") from None
    with file, WholeLines(file) as lines:
        require_alone(file, target)
        if not file.tell():
            lines.write(records.header)
        yield Lines(records, lines)


class Drawn:
    """The image with its faces drawn on it, in a file."""

    def __init__(self, settings: Settings, target: Path) -> None:
        self._settings = settings
        self._target = target

    def add(self, image: FolderImage) -> None:
        """See FaceOutput."""
        if image.error is not None:
            return
        limits = self._settings.limits
        data = read_anywhere(image.path, limits.max_image_bytes)
        pixels = decode(data, max_pixels=limits.max_pixels, max_bytes=limits.max_image_bytes)
        masks = [face.attributes.mask for face in image.faces]
        drawn = draw_detections(
            pixels, detections_of(image.faces), detector=self._settings.models.detector, masks=masks
        )
        self._target.write_bytes(encode_jpeg(drawn))
        err.print(f"written to {printable(str(self._target))}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """See FaceOutput."""


class Sheet:
    """All faces on pages: `faces.jpg`, then `faces-2.jpg` and so on."""

    def __init__(self, target: Path, *, resumed: bool) -> None:
        """`resumed`: pages that are there already stay. Raises RequestError for files of other types."""
        if target.suffix.lower() not in PAGE_TYPES:
            raise RequestError(f"--sheet {target}: expected a name that ends in {', '.join(PAGE_TYPES)}")
        self._target = target
        self._number = 1
        while resumed and self._path.exists():
            self._number += 1
        self._page = Page()

    def is_page(self, path: Path) -> bool:
        """Whether this is a page of the sheet: those can lie in the folder that is searched."""
        target = self._target
        rest = path.stem.removeprefix(target.stem).removeprefix("-")
        alike = path.suffix == target.suffix and path.stem.startswith(target.stem) and (not rest or rest.isdecimal())
        return alike and path.parent.absolute() == target.parent.absolute()

    def add(self, image: FolderImage) -> None:
        """See FaceOutput."""
        for number, face in enumerate(image.faces, 1):
            if face.crop is None:
                continue
            crop = decode(face.crop, max_pixels=1 << 20, max_bytes=len(face.crop))
            width = face.box[2] - face.box[0]
            quality = "" if face.quality is None else f"  q {face.quality:.2f}"
            self._page.add(crop, [printable(image.path.name), f"#{number}  {face.score:.2f}{quality}  {width:.0f} px"])
            if self._page.is_full:
                self._write()

    def close(self) -> None:
        """Write the last page."""
        if self._page.faces:
            self._write()
        if self._number == 1:
            err.print("no faces for a contact sheet", markup=False)

    def _write(self) -> None:
        replace_file(self._path, _encoded(self._page.pixels(), self._path.suffix), mode=0o666)
        err.print(f"written to {printable(str(self._path))}", markup=False, soft_wrap=True)
        self._number += 1
        self._page = Page()

    @property
    def _path(self) -> Path:
        return self._target if self._number == 1 else self._target.with_stem(f"{self._target.stem}-{self._number}")


def _encoded(page: Image, suffix: str) -> bytes:
    if suffix.lower() == ".png":
        return bytes(cv2.imencode(".png", page)[1])
    return encode_jpeg(page, 90)


def printable(text: str) -> str:
    """Names of files as a terminal can show them: what would control it, or is no text, is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _table(image: FolderImage) -> Table | str:
    name = escape(printable(str(image.path)))
    if image.error is not None:
        return f"{name}: [red]{escape(printable(image.error.message))}[/]"
    columns = [column for column in ASKED if any(ASKED[column](face) for face in image.faces)]
    table = face_table(f"{name} ({image.width}x{image.height})", columns)
    for number, face in enumerate(image.faces, 1):
        traits = face.attributes
        add_face(
            table,
            number,
            box=face.box.astype(int).tolist(),
            score=face.score,
            age=traits.age,
            gender=traits.gender,
            mask=traits.mask,
            more=[ASKED[column](face) for column in columns],
        )
    return table


def _angles(pose: Pose | None) -> str:
    if pose is None:
        return ""
    return " ".join("-" if angle is None else f"{angle:.0f}" for angle in (pose.roll, pose.yaw, pose.pitch))


ASKED: dict[str, Callable[[Face], str]] = {
    "quality": lambda face: "" if face.quality is None else f"{face.quality:.2f}",
    "roll yaw pitch": lambda face: _angles(face.pose),
}
"""Columns of a table that are there where they were asked for."""


def face_table(title: str, more: Sequence[str] = ()) -> Table:
    """An empty table for faces, with these further columns."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("#", "box (x1 y1 x2 y2)", "width", "score", "age", "gender", "mask", *more):
        table.add_column(column, justify="right")
    return table


def add_face(
    table: Table,
    number: int,
    *,
    box: list[int],
    score: float,
    age: float | None,
    gender: int | None,
    mask: bool | None,
    more: Sequence[str] = (),
) -> None:
    """Add one face as a row, with a dash for unknown values."""
    table.add_row(
        str(number),
        " ".join(str(value) for value in box),
        f"{box[2] - box[0]} px",
        f"{score:.2f}",
        "-" if age is None else f"{age:.0f}",
        {0: "female", 1: "male"}.get(gender, "-") if gender is not None else "-",
        {True: "yes", False: "no"}[mask] if mask is not None else "-",
        *more,
    )
