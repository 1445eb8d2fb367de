"""Clients of InsightFace-REST servers, synchronous and asynchronous."""

from ifr_clients._async import IFRClientAsync
from ifr_clients._server import __version__
from ifr_clients._sync import IFRClient
from ifr_clients.errors import IFRConnectionError, IFRError, IFRRejected, IFRResponseInvalid, IFRTimeout, Stopped
from ifr_clients.schemas import CompareResponse, FacesResponse, ImageResponse, Pose, RecognitionResponse, Took

__all__ = [
    "CompareResponse",
    "FacesResponse",
    "IFRClient",
    "IFRClientAsync",
    "IFRConnectionError",
    "IFRError",
    "IFRRejected",
    "IFRResponseInvalid",
    "IFRTimeout",
    "ImageResponse",
    "Pose",
    "RecognitionResponse",
    "Stopped",
    "Took",
    "__version__",
]
