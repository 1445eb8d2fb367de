"""A model's manifest: what it is, where its file comes from and how tensors go in and out."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mien.errors import ManifestInvalid, ModelUnknown

Task = Literal[
    "face_detection",
    "face_recognition",
    "age",
    "gender",
    "age_gender",
    "mask",
    "pose",
    "landmarks",
    "image_embedding",
    "text_embedding",
    "labels",
    "tokenizer",
]
Family = Literal[
    "yunet",
    "centerface",
    "scrfd",  # detectors
    "arcface",  # recognisers: 112x112 aligned crop -> vector
    "dlib_age",
    "dlib_gender",
    "insightface_genderage",
    "keras_mask",  # attributes
    "hopenet",  # head pose
    "landmarks_68",
    "imagenet",
    "minilm",
    "clip_image",
    "clip_text",  # the two halves of a CLIP or SigLIP
    "data",
]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the unconverted file comes from."""

    kind: Literal["pypi", "npm", "https", "file"]
    package: str | None = None
    """`name==version` (PyPI) or `name@version` (npm)."""
    url: str | None = None
    path: str | None = None
    """The file's path: in the unpacked package, in a zip behind `url`, or on this machine (kind `file`)."""
    sha256: str | None = None
    """Of the file named here. None: recorded on the first pull and required from then on."""

    def required(self, field: Literal["package", "url", "path"]) -> str:
        """A field that this kind of source needs. Raises ManifestInvalid when the manifest leaves it out."""
        value: str | None = getattr(self, field)
        if not value:
            raise ManifestInvalid(f"a source of kind {self.kind!r} needs `{field}`")
        return value


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model's image input: `(pixel - mean) / std` in the given channel order."""

    name: str
    width: int | None = None
    """Pixels; None: any multiple of `multiple`."""
    height: int | None = None
    multiple: int = 1
    channels: Literal["bgr", "rgb", "gray"] = "rgb"
    """`gray`: one channel, luma; of `mean` and `std` the first number counts."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: Literal["crop", "squash"] = "crop"
    """How `clip_image` makes an image as wide and high as the input: scaled by its shorter side and cropped at the
    centre, as for CLIP, or with other proportions, as for SigLIP."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Of `clip_image`."""


class TextInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The text input of a `clip_text` model."""

    tokens: Annotated[int, msgspec.Meta(ge=2, le=4096)]
    """Most tokens of a text, those of its start and end included; longer texts are truncated."""
    padding: str
    """The token that texts are filled up with."""
    always_full: bool = False
    """Whether every text is filled up to `tokens`, without a mask: SigLIP was trained so."""


class Similarity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the cosine of an image and a text becomes a score."""

    scale: float
    bias: float | None = None
    """None: the softmax of `scale` × cosine over all texts, as in CLIP. A number: the sigmoid of `scale` × cosine +
    `bias`, for each text on its own, as in SigLIP."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. The file `NAME.toml` holds one; its `name` must be the file's."""

    name: str
    task: Task
    family: Family
    title: str
    licence: str
    credit: str
    """Who made the weights: goes to NOTICE and `mien models info`."""
    non_commercial: bool = False
    """True: pulled only with explicit consent."""
    source: Source
    mirrors: tuple[Source, ...] = ()
    """Tried in this order when `source` is unavailable; each must have the same file."""
    otherwise: str | None = None
    """What a user can do when no source is available: the end of the error's sentence."""
    convert: str | None = None
    """Name of the conversion recipe in zoo/convert/; None: the file is used as it is."""
    convert_revision: int = 1
    """Incremented when the recipe's output changes, so that caches convert again."""
    bundled: str | None = None
    """SHA-256 of the converted file that comes with Mien, in `zoo/bundled/`; None: the model has to be pulled."""
    sets: tuple[str, ...] = ()
    input: Input | None = None
    text: TextInput | None = None
    similarity: Similarity | None = None
    """Of a `clip_image` model."""
    outputs: tuple[str, ...] = ()
    """Output names in the order that the family's code expects; empty: the model's own order."""
    embedding_dim: int | None = None
    score_threshold: float | None = None
    nms_threshold: float | None = None
    same_threshold: float | None = None
    """Cosine from which two faces count as the same person."""


def parse(text: str, *, origin: str) -> Manifest:
    """The manifest in `text` (TOML). Raises ManifestInvalid that names `origin` and the field."""
    try:
        manifest = msgspec.toml.decode(text, type=Manifest)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ManifestInvalid(f"{origin}: {error}") from error
    if Path(origin).stem != manifest.name:
        raise ManifestInvalid(f"{origin}: holds the name {manifest.name!r}; a manifest is named after its model")
    return manifest


def load_manifests(user_dir: Path | None = None) -> dict[str, Manifest]:
    """All manifests by name: the built-in ones, then those of `user_dir`, which win.

    Raises ManifestInvalid for the first file that cannot be parsed.
    """
    files = [*resources.files("mien.zoo").joinpath("manifests").iterdir()]
    found = [parse(file.read_text("utf-8"), origin=file.name) for file in files if file.name.endswith(".toml")]
    if user_dir is not None:
        found += [parse(file.read_text("utf-8"), origin=file.name) for file in sorted(user_dir.glob("*.toml"))]
    return {manifest.name: manifest for manifest in sorted(found, key=lambda m: m.name)}


def find(manifests: dict[str, Manifest], name: str) -> Manifest:
    """The manifest called `name`. Raises ModelUnknown that lists what exists."""
    try:
        return manifests[name]
    except KeyError:
        raise ModelUnknown(f"no model is called {name!r}; there are: {', '.join(manifests)}") from None
