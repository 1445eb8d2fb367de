"""Metadata of outputs."""

from infsh import (
    AudioMeta,
    ImageMeta,
    MetaItem,
    MetaItemType,
    OutputMeta,
    RawMeta,
    TextMeta,
    VideoMeta,
    VideoResolution,
)

__all__ = [
    "AudioMeta",
    "ImageMeta",
    "MetaItem",
    "MetaItemType",
    "OutputMeta",
    "RawMeta",
    "TextMeta",
    "VideoMeta",
    "VideoResolution",
]
