"""`mien faces`: local images through the same service as behind the APIs, without a server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from mien.builtin import load_inference, open_fetcher
from mien.cli.output import err, out
from mien.cli.pulling import pull_needed
from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.engine import Failed
from mien.engine.sources import Item
from mien.errors import RequestError
from mien.faces.pipeline import FaceOptions, detections_of
from mien.faces.service import ImageDone, ImageResult
from mien.metrics import Metrics
from mien.settings import Settings
from mien.vision.draw import draw_detections, encode_jpeg
from mien.vision.image import decode
from mien.zoo.selection import age_gender_models, mask_models

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
CHUNK = 16  # images in memory at once


def find_faces(
    settings: Settings,
    paths: list[Path],
    *,
    as_json: bool,
    draw: Path | None,
    threshold: float | None,
    attributes: bool,
) -> int:
    """Print the faces of each image as a table or JSON lines; returns how many images failed."""
    images = list(_images(paths))
    if draw is not None and len(images) != 1:
        raise RequestError(f"--draw takes exactly one image; {len(images)} were given")
    options = FaceOptions(
        threshold=settings.api.default_threshold if threshold is None else threshold,
        embedding=as_json,
        landmarks=True,
        attributes=attributes,
        masks=attributes,
    )
    pull_needed(settings, [*age_gender_models(settings.models), *mask_models(settings.models)] if attributes else ())
    return asyncio.run(_run(settings, images, options, as_json=as_json, draw=draw))


def _images(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif path.is_file():
            yield path
        else:
            raise RequestError(f"{path}: no such file or directory")


async def _run(
    settings: Settings, images: list[Path], options: FaceOptions, *, as_json: bool, draw: Path | None
) -> int:
    fetcher = open_fetcher(settings)
    inference = load_inference(settings, Metrics(), fetcher, Admission.from_settings(settings.limits))
    failed = 0
    try:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            sources = [Item(path.read_bytes()) for path in chunk]
            results = await inference.faces.analyse(sources, options, CancelScope())
            for path, result in zip(chunk, results, strict=True):
                failed += isinstance(result, Failed)
                out.print(
                    _json(path, result) if as_json else _table(path, result), soft_wrap=as_json, markup=not as_json
                )
            if draw is not None and isinstance(results[0], ImageDone):
                _draw(settings, sources[0].data, results[0], draw)
    finally:
        await inference.close()
        await fetcher.aclose()
    return failed


def _draw(settings: Settings, data: bytes, result: ImageDone, target: Path) -> None:
    faces = result.analysis.faces
    image = decode(data, max_pixels=settings.limits.max_pixels, max_bytes=settings.limits.max_image_bytes)
    masks = [face.attributes.mask for face in faces]
    drawn = draw_detections(image, detections_of(faces), detector=settings.models.detector, masks=masks)
    target.write_bytes(encode_jpeg(drawn))
    err.print(f"written to {target}", markup=False)


def _json(path: Path, result: ImageResult) -> str:
    if isinstance(result, Failed):
        body: dict[str, Any] = {
            "path": str(path),
            "error": {"code": result.error.code, "message": result.error.message},
        }
    else:
        analysis = result.analysis
        faces = [
            {
                "box": face.box,
                "score": face.score,
                "landmarks": face.landmarks,
                "vector": face.vector,
                "age": face.attributes.age,
                "gender": face.attributes.gender,
                "mask": face.attributes.mask,
            }
            for face in analysis.faces
        ]
        body = {"path": str(path), "width": analysis.width, "height": analysis.height, "faces": faces}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _table(path: Path, result: ImageResult) -> Table | str:
    if isinstance(result, Failed):
        return f"{escape(str(path))}: [red]{escape(result.error.message)}[/]"
    table = face_table(f"{escape(str(path))} ({result.analysis.width}x{result.analysis.height})")
    for number, face in enumerate(result.analysis.faces, 1):
        traits = face.attributes
        add_face(
            table,
            number,
            box=face.box.astype(int).tolist(),
            score=face.score,
            age=traits.age,
            gender=traits.gender,
            mask=traits.mask,
        )
    return table


def face_table(title: str) -> Table:
    """An empty table for faces."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("#", "box (x1 y1 x2 y2)", "width", "score", "age", "gender", "mask"):
        table.add_column(column, justify="right")
    return table


def add_face(
    table: Table, number: int, *, box: list[int], score: float, age: float | None, gender: int | None, mask: bool | None
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
    )
