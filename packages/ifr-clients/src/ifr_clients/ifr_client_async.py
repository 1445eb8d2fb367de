"""Where the original library has its asyncio client."""

from ifr_clients._async import IFRClientAsync
from ifr_clients.common_utils import b64_encode_data, decode_face_data
from ifr_clients.schemas import RecognitionResponse

__all__ = ["IFRClientAsync", "RecognitionResponse", "b64_encode_data", "decode_face_data"]
