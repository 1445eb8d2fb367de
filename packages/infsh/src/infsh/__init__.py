"""The app SDK: write an app as a Python class. The task client, `inferencesh`, is here under the same names."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from infsh._app import BaseApp
from infsh._errors import AppInvalid, FileUnavailable, InfshError, ManifestInvalid
from infsh._file import File
from infsh._meta import (
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
from infsh._metadata import Metadata
from infsh._models import BaseAppInput, BaseAppOutput, BaseAppSetup
from infsh._storage import StorageDir, download

if TYPE_CHECKING:
    from inferencesh import AsyncInference, Inference, TaskStatus, UploadFileOptions

try:
    __version__ = version("infsh").partition("+")[0]  # in the environments of apps, `+k…` names the contents
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = [
    "AppInvalid",
    "AsyncInference",
    "AudioMeta",
    "BaseApp",
    "BaseAppInput",
    "BaseAppOutput",
    "BaseAppSetup",
    "File",
    "FileUnavailable",
    "ImageMeta",
    "Inference",
    "InfshError",
    "ManifestInvalid",
    "MetaItem",
    "MetaItemType",
    "Metadata",
    "OutputMeta",
    "RawMeta",
    "StorageDir",
    "TaskStatus",
    "TextMeta",
    "UploadFileOptions",
    "VideoMeta",
    "VideoResolution",
    "__version__",
    "download",
]

_CLIENT = ("AsyncInference", "Inference", "TaskStatus", "UploadFileOptions")


def __getattr__(name: str) -> Any:
    """The client's names, imported lazily: apps need none of them."""
    if name not in _CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import inferencesh

    return getattr(inferencesh, name)
