"""`OutputMeta`: what a run consumed and produced, for billing and statistics."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field


class MetaItemType(StrEnum):
    """The kinds of items."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    RAW = "raw"


class VideoResolution(StrEnum):
    """Common video resolutions, by their number of lines."""

    RES_480P = "480p"
    RES_720P = "720p"
    RES_1080P = "1080p"
    RES_1440P = "1440p"
    RES_4K = "4k"


class MetaItem(BaseModel):
    """Fields common to all items."""

    type: MetaItemType
    extra: dict[str, Any] | None = None


class TextMeta(MetaItem):
    """Text, in tokens."""

    type: Literal[MetaItemType.TEXT] = MetaItemType.TEXT
    tokens: int = 0


class ImageMeta(MetaItem):
    """Images of one size, in pixels and megapixels."""

    type: Literal[MetaItemType.IMAGE] = MetaItemType.IMAGE
    width: int = 0
    height: int = 0
    resolution_mp: float = 0.0
    steps: int = 0
    count: int = 1


class VideoMeta(MetaItem):
    """A video, in pixels, megapixels, seconds and frames per second."""

    type: Literal[MetaItemType.VIDEO] = MetaItemType.VIDEO
    width: int = 0
    height: int = 0
    resolution_mp: float = 0.0
    resolution: VideoResolution | None = None
    seconds: float = 0.0
    fps: float = 0.0


class AudioMeta(MetaItem):
    """Audio, in seconds and samples per second."""

    type: Literal[MetaItemType.AUDIO] = MetaItemType.AUDIO
    seconds: float = 0.0
    sample_rate: int = 0


class RawMeta(MetaItem):
    """A bare cost, in US cents."""

    type: Literal[MetaItemType.RAW] = MetaItemType.RAW
    cost: float = 0.0


Item = Annotated[TextMeta | ImageMeta | VideoMeta | AudioMeta | RawMeta, Field(discriminator="type")]


class OutputMeta(BaseModel):
    """Items that a run consumed and produced."""

    inputs: list[Item] = Field(default_factory=list)
    outputs: list[Item] = Field(default_factory=list)
