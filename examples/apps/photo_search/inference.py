"""Finds photos in a folder by words, with the CLIP that the server has loaded (`mien models load clip`).

The folder is one of the server's machine. Whoever may run this app may name any folder that its worker can read, and
learns the names of the images there: write the path into your own copy if that is too much. The vectors of the photos
are kept as long as the worker lives; only new and changed photos are read again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferencesh import APIError
from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup
from lumen_client import LumenClient

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"}
AT_ONCE = 8
Version = tuple[Path, int, int]
"""A file, the time of its last change, and its size."""


class AppSetup(BaseAppSetup):
    folder: str
    server: str = "http://127.0.0.1:8080"
    api_key: str = "none"


class AppInput(BaseAppInput):
    words: str
    """What the photos show, such as `a dog on the beach`."""
    count: int = 10
    """How many to return."""


class AppOutput(BaseAppOutput):
    photos: list[dict[str, str | float]]
    """`photo`, its path in the folder, and `cosine`: the best first."""
    searched: int
    unreadable: list[str]


class App(BaseApp):
    def setup(self, config: AppSetup) -> None:
        self.folder = Path(config.folder)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {self.folder}")
        self.client = LumenClient(config.server, config.api_key)
        self.model = ""
        self.vectors: dict[Version, np.ndarray | None] = {}
        """None for what is not an image."""

    def run(self, app_input: AppInput) -> AppOutput:
        words = self.client.infer("embedding", app_input.words, task="semantic_text_embed", mime="text/plain").value
        if words["model_id"] != self.model:  # another model has another space
            self.vectors, self.model = {}, words["model_id"]
        photos = [version(path) for path in sorted(self.folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
        self.vectors = {photo: self.vectors[photo] for photo in photos if photo in self.vectors}
        new = [photo for photo in photos if photo not in self.vectors]
        for done, batch in enumerate(batches(new), 1):
            self.add(batch)
            self.progress(min(1.0, done * AT_ONCE / len(new)), f"{len(self.vectors)} of {len(photos)} photos")
        seen = {photo: vector for photo, vector in self.vectors.items() if vector is not None}
        wanted = np.array(words["vector"])
        best = sorted(((float(vector @ wanted), photo[0]) for photo, vector in seen.items()), reverse=True)
        return AppOutput(
            photos=[{"photo": self.name(path), "cosine": cosine} for cosine, path in best[: app_input.count]],
            searched=len(seen),
            unreadable=[self.name(photo[0]) for photo, vector in self.vectors.items() if vector is None],
        )

    def add(self, photos: Sequence[Version]) -> None:
        """Embed the photos. Raises ValueError if the server embeds images with another model than texts."""
        for photo, found in zip(photos, self.embed([photo[0] for photo in photos]), strict=True):
            error = found.get("error")
            if error and error["code"] != "invalid_field" and not error["code"].startswith("image_"):
                raise ValueError(f"{photo[0]}: {error['message']}")
            if not error and found["model_id"] != self.model:
                raise ValueError("this server has no CLIP: `mien models pull clip`, then `mien models load clip`")
            self.vectors[photo] = None if error else np.array(found["vector"])

    def embed(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        """A result, or an `error`, for each photo."""
        try:
            found = self.client.infer("embedding", paths, task="semantic_image_embed").value
        except APIError as failed:  # of a single photo, whose error is that of the request
            if len(paths) > 1:
                raise
            return [{"error": {"code": str(failed.code), "message": failed.message}}]
        return found if isinstance(found, list) else [found]

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def unload(self) -> None:
        self.client.close()


def version(path: Path) -> Version:
    """The file as it is now."""
    state = path.stat()
    return path, state.st_mtime_ns, state.st_size


def batches(photos: Sequence[Version]) -> Iterator[Sequence[Version]]:
    """The photos, a few at a time."""
    for start in range(0, len(photos), AT_ONCE):
        yield photos[start : start + AT_ONCE]
