"""Where the original library has its blocking client."""

from ifr_clients._sync import IFRClient
from ifr_clients.common_utils import b64_encode_data, decode_face_data
from ifr_clients.schemas import RecognitionResponse

__all__ = ["IFRClient", "RecognitionResponse", "b64_encode_data", "decode_face_data"]
