"""A collage of the faces in a photo, detected by the server's built-in app `mien/faces` and cropped with Pillow."""

import math
from pathlib import Path

from PIL import Image, ImageOps

from inferencesh import Inference
from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File


class AppSetup(BaseAppSetup):
    server: str = "http://127.0.0.1:8080"
    api_key: str = "none"


class AppInput(BaseAppInput):
    photo: File
    side: int = 160
    """Side length of a face's tile in pixels."""
    margin: float = 0.3
    """Margin around a face, as a fraction of its size."""


class AppOutput(BaseAppOutput):
    collage: File
    faces: int


class App(BaseApp):
    def setup(self, config: AppSetup) -> None:
        self.client = Inference(api_key=config.api_key, base_url=config.server)

    def run(self, app_input: AppInput) -> AppOutput:
        found = self.client.run({"app": "mien/faces", "input": {"image": File(path=app_input.photo.path)}})
        faces = found["output"]["faces"]
        self.logger.info("%d faces", len(faces))
        photo = ImageOps.exif_transpose(Image.open(app_input.photo.path)).convert("RGB")
        tiles = []
        for number, face in enumerate(faces, 1):
            tiles.append(cut(photo, face["bbox"], app_input.side, app_input.margin))
            self.progress(number / len(faces), f"{number} of {len(faces)} faces")
        target = Path("collage.png").resolve()
        paste(tiles, app_input.side).save(target)
        return AppOutput(collage=File(path=str(target)), faces=len(faces))

    def unload(self) -> None:
        self.client.close()


def cut(photo: Image.Image, box: list[float], side: int, margin: float) -> Image.Image:
    """The square around a face; areas outside of the photo are black."""
    left, top, right, bottom = box
    half = max(right - left, bottom - top) * (0.5 + margin)
    x, y = (left + right) / 2, (top + bottom) / 2
    square = tuple(round(value) for value in (x - half, y - half, x + half, y + half))
    return photo.crop(square).resize((side, side))


def paste(tiles: list[Image.Image], side: int) -> Image.Image:
    """The tiles in rows, as close to a square as possible."""
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    rows = max(1, math.ceil(len(tiles) / columns))
    collage = Image.new("RGB", (columns * side, rows * side))
    for place, tile in enumerate(tiles):
        collage.paste(tile, (place % columns * side, place // columns * side))
    return collage
