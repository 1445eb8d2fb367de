"""The client of `/v1/infer`: every service of a Lumen server by name, blocking or with asyncio, whole or streamed."""

from inferencesh.errors import (
    APIError,
    ConfigurationError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeout,
    UploadError,
)
from infsh import __version__
from lumen_client._async import AsyncLumenClient, AsyncResults
from lumen_client._base import InferOptions
from lumen_client._payload import Payload
from lumen_client._result import ResponseInvalid, Result, StreamFailed
from lumen_client._sync import LumenClient, Results

__all__ = [
    "APIError",
    "AsyncLumenClient",
    "AsyncResults",
    "ConfigurationError",
    "InferOptions",
    "InferenceConnectionError",
    "InferenceError",
    "InferenceTimeout",
    "LumenClient",
    "Payload",
    "ResponseInvalid",
    "Result",
    "Results",
    "StreamFailed",
    "UploadError",
    "__version__",
]
