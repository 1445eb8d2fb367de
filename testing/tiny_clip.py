"""The tiny CLIP and SigLIP of `packages/mien/tests/clip`, as models that a server can have."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.zoo.manifest import load_manifests
from mien.zoo.zoo import Zoo

FILES = Path(__file__).parents[1] / "packages" / "mien" / "tests" / "clip"
COMMON = """
title = "Random weights"
licence = "Apache-2.0"
credit = "tools/clip_reference.py"
sets = ["{set}"]
"""
IMAGE = """
name = "{name}_image"
task = "image_embedding"
family = "clip_image"
outputs = ["{output}"]
{common}
[source]
kind = "file"
path = "{folder}/image.onnx"

[input]
name = "pixel_values"
width = {side}
height = {side}
fit = "{fit}"
mean = {mean}
std = {std}

[similarity]
{similarity}
"""
TEXT = """
name = "{name}_text"
task = "text_embedding"
family = "clip_text"
outputs = ["{text_output}"]
{common}
[source]
kind = "file"
path = "{folder}/text.onnx"

[text]
{text}
"""
TOKENIZER = """
name = "{name}_tokenizer"
task = "tokenizer"
family = "data"
{common}
[source]
kind = "file"
path = "{folder}/tokenizer.json"
"""


@dataclass(frozen=True)
class TinyClip:
    """One of the two, and what its reference implementation makes of texts and images."""

    name: str
    fields: dict[str, Any]

    @property
    def folder(self) -> Path:
        return FILES / self.name

    @cached_property
    def expected(self) -> dict[str, NDArray[Any]]:
        """`ids` [T, S] and `counts` [T] of `texts`; `texts` [T, D]; `pixels` [I, 3, H, W]; `images` [I, D]; `scores`
        [I, L] of `labels`; `scale`; `bias`.
        """
        with np.load(self.folder / "expected.npz") as file:
            return dict(file)

    @cached_property
    def said(self) -> dict[str, list[str]]:
        """`texts` and `labels`."""
        found: dict[str, list[str]] = json.loads((self.folder / "texts.json").read_text("utf-8"))
        return found

    def write_manifests(self, folder: Path) -> None:
        """Write the three manifests into `folder`."""
        scale, bias = self.expected["scale"].item(), self.expected["bias"]
        similarity = f"scale = {scale!r}\n" + (f"bias = {bias.item()!r}\n" if bias.size else "")
        fields = {"name": self.name, "folder": self.folder, "similarity": similarity, **self.fields}
        fields["common"] = COMMON.format(set=f"set_of_{self.name}")
        for half, text in (("image", IMAGE), ("text", TEXT), ("tokenizer", TOKENIZER)):
            (folder / f"{self.name}_{half}.toml").write_text(text.format(**fields))


CLIP = TinyClip(
    "tiny_clip",
    {
        "output": "image_embeds",
        "text_output": "text_embeds",
        "side": 96,
        "fit": "crop",
        "mean": [0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255],
        "std": [0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255],
        "text": 'tokens = 77\npadding = "<|endoftext|>"',
    },
)
SIGLIP = TinyClip(
    "tiny_siglip",
    {
        "output": "pooler_output",
        "text_output": "pooler_output",
        "side": 64,
        "fit": "squash",
        "mean": [127.5] * 3,
        "std": [127.5] * 3,
        "text": 'tokens = 64\npadding = "</s>"\nalways_full = true',
    },
)


def images() -> list[bytes]:
    """The images, as PNG."""
    return [path.read_bytes() for path in sorted(FILES.glob("image_*.png"))]


def install(folder: Path) -> dict[str, Any]:
    """Write the manifests of both below `folder` and pull them into a cache there; returns the settings for that."""
    manifests, cache = folder / "manifests", folder / "cache"
    manifests.mkdir()
    for clip in (CLIP, SIGLIP):
        clip.write_manifests(manifests)
    zoo = Zoo(cache / "models", load_manifests(manifests), offline=True)
    for clip in (CLIP, SIGLIP):
        for half in ("image", "text", "tokenizer"):
            zoo.pull(f"{clip.name}_{half}")
    return {"manifests_dir": manifests, "cache_dir": cache, "offline": True}
