"""How well faces are recognised when they are turned, changed imperceptibly, small or blurred.

    .venv/bin/python benchmarks/recognition.py [--people FOLDER] [--plots FOLDER] [ANGLES|CHANGES|SIZE|BLUR|PEOPLE …]

The portraits are those of the tests; `--people` adds a folder with one folder of photos per person. Every figure is a
cosine similarity of embeddings made by the pipeline of the server, on images in memory. *Same* is the cosine of a
photo's face with that of the unchanged photo, *others* the highest with an unchanged photo of another person.
`--plots` writes an SVG per table.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from rich.console import Console
from rich.table import Table

from mien.builtin import Inference, load_inference, open_fetcher
from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.faces.pipeline import Face, FaceOptions
from mien.metrics import Metrics
from mien.settings import Settings
from mien.vision.image import decode
from mien.vision.types import Array, Image

PHOTOS = Path(__file__).parent.parent / "packages/mien/tests/photos"
PERSONS = {
    "impostor_1": "c",
    "impostor_2": "d",
    "person_a_1": "a",
    "person_a_2": "a",
    "person_b_1": "b",
    "person_b_2": "b",
}
ANGLES = tuple(range(0, 360, 15))
SIZES = (16, 20, 24, 32, 40, 56, 80, 112, 160)
"""Longer side of the face's box, in pixels."""
BLURS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12)
"""Standard deviation of a Gaussian, as a share of the face's longer side."""
OPTIONS = FaceOptions(threshold=0.6)
console = Console(width=120)


@dataclass(frozen=True)
class Photo:
    """A photo of one person."""

    name: str
    person: str
    data: bytes
    image: Image


@dataclass(frozen=True)
class Row:
    """One line of a table: what was done to all photos, and the cosines that came of it."""

    label: str
    x: float
    same: tuple[float, ...]
    """With the unchanged photo; a face that is not found counts as -1."""
    others: float

    @property
    def missed(self) -> int:
        return sum(cosine == -1 for cosine in self.same)


class Recogniser:
    """The pipeline of the server: image → the face that is seen best."""

    def __init__(self, settings: Settings) -> None:
        admission = Admission.from_settings(settings.limits)
        self._inference: Inference = load_inference(settings, Metrics(), open_fetcher(settings), admission)

    def face(self, image: Image) -> Face | None:
        """The face with the highest score, if any."""
        faces = self._inference.builtin.pipeline.analyse(image, OPTIONS, CancelScope()).faces
        return max(faces, key=lambda face: face.score, default=None)

    def vector(self, image: Image) -> Array | None:
        """The embedding of that face."""
        face = self.face(np.ascontiguousarray(image))
        return None if face is None else face.vector

    def close(self) -> None:
        asyncio.run(self._inference.close())


# --- photos and what is done to them


def photos(people: Path | None) -> Iterator[Photo]:
    """The tests' portraits, and those in a folder with one folder per person."""
    for path in sorted(PHOTOS.glob("*.jpg")):
        yield _photo(path, PERSONS[path.stem])
    for folder in sorted(people.iterdir()) if people else ():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            yield _photo(path, folder.name)


def _photo(path: Path, person: str) -> Photo:
    data = path.read_bytes()
    return Photo(f"{path.parent.name}/{path.stem}", person, data, decode(data, max_pixels=10**8, max_bytes=10**8))


def rotated(image: Image, degrees: float) -> Image:
    """The whole image turned clockwise, on a larger black canvas."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    wide, tall = int(height * sin + width * cos), int(height * cos + width * sin)
    matrix[:, 2] += [(wide - width) / 2, (tall - height) / 2]
    turned: Image = cv2.warpAffine(image, matrix, (wide, tall), flags=cv2.INTER_CUBIC)  # type: ignore[assignment]
    return turned


def moved(image: Image, dx: float, dy: float, zoom: float = 1.0) -> Image:
    """The image shifted by parts of a pixel and zoomed about its centre."""
    height, width = image.shape[:2]
    matrix = np.array([[zoom, 0, dx + (1 - zoom) * width / 2], [0, zoom, dy + (1 - zoom) * height / 2]])
    result: Image = cv2.warpAffine(  # type: ignore[assignment]
        image, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
    )
    return result


def recompressed(image: Image, subsampling: str) -> bytes:
    """A JPEG of quality 95."""
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=95, colorspace="BGR", colorsubsampling=subsampling
    )
    return data


def jpeg(data: bytes, *, fast: bool) -> Image:
    """Decoded with the chroma upsampled smoothly or, `fast`, by repeating."""
    image: Image = simplejpeg.decode_jpeg(data, colorspace="BGR", fastupsample=fast)
    return image


CHANGES: dict[str, Callable[[Photo], Image]] = {
    "chroma upsampled by repeating": lambda photo: jpeg(_as_jpeg(photo), fast=True),
    "recompressed, 4:2:0": lambda photo: jpeg(recompressed(photo.image, "420"), fast=False),
    "recompressed, 4:4:4": lambda photo: jpeg(recompressed(photo.image, "444"), fast=False),
    "shifted by 0.3 px in x": lambda photo: moved(photo.image, 0.3, 0),
    "shifted by 0.3 px in y": lambda photo: moved(photo.image, 0, 0.3),
    "shifted by 0.3 px in both": lambda photo: moved(photo.image, 0.3, 0.3),
    "shifted by -0.3 px in both": lambda photo: moved(photo.image, -0.3, -0.3),
    "zoomed to 1.005": lambda photo: moved(photo.image, 0, 0, 1.005),
    "zoomed to 0.995": lambda photo: moved(photo.image, 0, 0, 0.995),
    "one row and column cut off": lambda photo: photo.image[1:, 1:],
    "brighter by 1 of 255": lambda photo: cv2.add(photo.image, np.full_like(photo.image, 1)),  # type: ignore[dict-item, return-value]
}


def _as_jpeg(photo: Photo) -> bytes:
    return photo.data if photo.data.startswith(b"\xff\xd8") else recompressed(photo.image, "420")


# --- measurements


def compared(
    recogniser: Recogniser, known: Mapping[str, Array], all_photos: Sequence[Photo], change: Callable[[Photo], Image]
) -> tuple[tuple[float, ...], float]:
    """The cosine of each changed photo with itself (-1: no face), and the highest with another person's."""
    same, others = [], [-1.0]
    for photo in all_photos:
        vector = recogniser.vector(change(photo))
        same.append(-1.0 if vector is None else float(vector @ known[photo.name]))
        if vector is not None:
            others += [float(vector @ known[other.name]) for other in all_photos if other.person != photo.person]
    return tuple(same), max(others)


def turned_rows(recogniser: Recogniser, known: Mapping[str, Array], all_photos: Sequence[Photo]) -> Iterator[Row]:
    for angle in ANGLES:
        yield Row(f"{angle}°", angle, *compared(recogniser, known, all_photos, partial(_rotated, angle)))


def changed_rows(recogniser: Recogniser, known: Mapping[str, Array], all_photos: Sequence[Photo]) -> Iterator[Row]:
    for number, (label, change) in enumerate(CHANGES.items()):
        yield Row(label, number, *compared(recogniser, known, all_photos, change))


def sized_rows(recogniser: Recogniser, known: Mapping[str, Array], all_photos: Sequence[Photo]) -> Iterator[Row]:
    lengths = {photo.name: face_length(recogniser, photo.image) for photo in all_photos}
    for size in SIZES:
        large = [photo for photo in all_photos if lengths[photo.name] >= size]
        yield Row(f"{size} px", size, *compared(recogniser, known, large, partial(_resized, size, lengths)))


def blurred_rows(recogniser: Recogniser, known: Mapping[str, Array], all_photos: Sequence[Photo]) -> Iterator[Row]:
    lengths = {photo.name: face_length(recogniser, photo.image) for photo in all_photos}
    for blur in BLURS:
        yield Row(
            f"{blur:.0%} of the face", blur, *compared(recogniser, known, all_photos, partial(_blurred, blur, lengths))
        )


def face_length(recogniser: Recogniser, image: Image) -> float:
    """The longer side of the face's box, pixels."""
    face = recogniser.face(image)
    return 0.0 if face is None else float((face.box[2:] - face.box[:2]).max())


def _rotated(angle: float, photo: Photo) -> Image:
    return rotated(photo.image, angle)


def _resized(size: float, lengths: Mapping[str, float], photo: Photo) -> Image:
    scale = size / lengths[photo.name]
    result: Image = cv2.resize(photo.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return result


def _blurred(blur: float, lengths: Mapping[str, float], photo: Photo) -> Image:
    sigma = blur * lengths[photo.name]
    result: Image = cv2.GaussianBlur(photo.image, (0, 0), sigma) if sigma else photo.image  # type: ignore[assignment]
    return result


def people_table(known: Mapping[str, Array], all_photos: Sequence[Photo]) -> Table:
    """How well thresholds tell the same person from others."""
    vectors = np.stack([known[photo.name] for photo in all_photos])
    persons = np.array([photo.person for photo in all_photos])
    rows, columns = np.triu_indices(len(vectors), 1)
    cosines, same = (vectors @ vectors.T)[rows, columns], persons[rows] == persons[columns]
    genuine, impostor = cosines[same], np.sort(cosines[~same])
    table = Table(
        "threshold",
        "same persons found",
        "different persons taken for the same",
        title=(
            f"{len(vectors)} photos of {len(set(persons))} people: {len(genuine)} pairs of the same, {len(impostor)} of"
            f" different people; AUC {area_under_curve(genuine, impostor):.5f}; means {genuine.mean():.3f} and"
            f" {impostor.mean():.3f}; lowest of the same {genuine.min():.3f}, highest of others {impostor.max():.3f}"
        ),
    )
    for rate in (0.01, 0.001):
        limit = float(impostor[-max(1, int(np.ceil(rate * len(impostor))))])
        table.add_row(f"{limit:.3f} ({rate:.1%} taken)", f"{(genuine > limit).mean():.1%}", f"{rate:.1%}")
    for limit in (0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        table.add_row(f"{limit:.2f}", f"{(genuine >= limit).mean():.1%}", f"{(impostor >= limit).mean():.3%}")
    return table


def area_under_curve(genuine: Array, impostor: Array) -> float:
    """The probability that two photos of one person are more alike than two of different people."""
    below = np.searchsorted(impostor, genuine, "left") + np.searchsorted(impostor, genuine, "right")
    return float(below.sum()) / (2 * len(genuine) * len(impostor))


# --- output


def table_of(title: str, rows: Sequence[Row]) -> Table:
    table = Table("", "same: lowest", "10 %", "mean", "others: highest", "not found", title=title)
    for row in rows:
        same = np.array(row.same)
        figures = (same.min(), np.percentile(same, 10), same.mean(), row.others)
        table.add_row(row.label, *(f"{value:.3f}" for value in figures), str(row.missed or ""))
    return table


def plot(rows: Sequence[Row], title: str, unit: str) -> str:
    """An SVG: the lowest and the mean cosine of the same, and the highest of others, by x."""
    width, height, left, top = 640, 320, 50, 40
    first, last = rows[0].x, rows[-1].x

    def point(x: float, cosine: float) -> str:
        return f"{left + (x - first) / (last - first) * width:.1f},{top + (1 - max(cosine, 0)) * height:.1f}"

    lines = {
        "same, mean": ("#1f77b4", [point(row.x, float(np.mean(row.same))) for row in rows]),
        "same, lowest": ("#2ca02c", [point(row.x, min(row.same)) for row in rows]),
        "others, highest": ("#d62728", [point(row.x, row.others) for row in rows]),
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * left} {height + 2 * top + 30}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{title}</text>',
    ]
    for tenth in range(0, 11, 2):
        y = top + (1 - tenth / 10) * height
        parts.append(f'<path d="M{left},{y} h{width}" stroke="#ddd"/><text x="18" y="{y + 4}">{tenth / 10:.1f}</text>')
    for row in rows[:: max(1, len(rows) // 12)]:
        x = left + (row.x - first) / (last - first) * width
        parts.append(f'<text x="{x:.0f}" y="{top + height + 18}" text-anchor="middle">{row.x:g}</text>')
    parts.append(f'<text x="{left + width}" y="{top + height + 36}" text-anchor="end">{unit}</text>')
    for number, (label, (colour, points)) in enumerate(lines.items()):
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 120 * number}" y="{top + height + 36}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


Rows = Callable[[Recogniser, Mapping[str, Array], Sequence[Photo]], Iterator[Row]]
TABLES: dict[str, tuple[str, str, Rows]] = {
    "angles": ("Cosine by rotation of the image", "degrees", turned_rows),
    "changes": ("Cosine after changes that nobody sees", "", changed_rows),
    "size": ("Cosine by size of the face", "pixels, longer side of the box", sized_rows),
    "blur": ("Cosine by blur", "standard deviation, share of the face's longer side", blurred_rows),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*TABLES, "people", []], help="all, if none is named")
    parser.add_argument("--people", type=Path, help="a folder with one folder of photos per person")
    parser.add_argument("--plots", type=Path, help="a folder to write plots into")
    arguments = parser.parse_args()
    recogniser = Recogniser(Settings())
    try:
        everyone = list(photos(arguments.people))
        vectors = {photo.name: recogniser.vector(photo.image) for photo in everyone}
        known = {name: vector for name, vector in vectors.items() if vector is not None}
        everyone = [photo for photo in everyone if photo.name in known]
        console.print(f"{len(known)} photos with a face, {len(vectors) - len(known)} without")
        for name in arguments.what or [*TABLES, "people"]:
            if name == "people":
                console.print(people_table(known, everyone))
                continue
            title, unit, measure = TABLES[name]
            rows = list(measure(recogniser, known, everyone))
            console.print(table_of(title, rows))
            if arguments.plots and unit:
                arguments.plots.mkdir(parents=True, exist_ok=True)
                (arguments.plots / f"recognition-{name}.svg").write_text(plot(rows, title, unit))
    finally:
        recogniser.close()


if __name__ == "__main__":
    main()
