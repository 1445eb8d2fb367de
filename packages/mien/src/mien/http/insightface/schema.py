"""Requests and responses of this API as pydantic models: requests are validated by them, both are documented."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

T = TypeVar("T")


def _binary_or_text(value: Any) -> Any:
    """Image bytes must not go through pydantic's UTF-8 decoding."""
    if isinstance(value, bytes | str):
        return value
    raise ValueError("expected an encoded image: bytes in MessagePack, base64 text in JSON")


EncodedImage = Annotated[bytes | str, BeforeValidator(_binary_or_text)]


class NullMeansDefault(BaseModel):
    """Unknown fields are ignored and null means the default, as clients of the original server expect."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Images(NullMeansDefault):
    """The images: `urls` if there are any, else `data`."""

    data: list[EncodedImage] = Field(
        default=[], description="Encoded images: base64 text (a `data:` prefix is fine), or bytes in MessagePack."
    )
    urls: list[str] = Field(default=[], description="http(s) URLs, or paths under the server's images root.")


class FindParameters(NullMeansDefault):
    """What to look for: shared by every route that finds faces."""

    threshold: float | None = Field(
        default=None, ge=0, le=1, description="Least detection score, 0..1. Default: the server's, 0.6."
    )
    limit_faces: int = Field(default=0, ge=0, le=100_000, description="Most faces per image, the largest; 0: all.")
    min_face_size: int = Field(default=0, ge=0, le=100_000, description="Least width of a face's box in pixels.")
    detect_masks: bool = Field(default=False, description="Say whether each face wears a mask.")


class ExtractParameters(FindParameters):
    """Everything about an extraction but the images."""

    extract_embedding: bool = Field(default=True, description="Compute the face embeddings.")
    return_landmarks: bool = Field(default=False, description="Return the five landmarks.")
    return_face_data: bool = Field(default=False, description="Return the aligned 112x112 crops (base64 JPEG).")
    embed_only: bool = Field(default=False, description="The images are aligned 112x112 crops already.")
    extract_ga: bool = Field(default=False, description="Estimate age and gender.")
    verbose_timings: bool = Field(default=False, description="Return where the time went.")


class ExtractRequest(ExtractParameters):
    """Body of `POST /extract`."""

    images: Images
    msgpack: bool = Field(default=False, description="Answer in MessagePack.")
    img_req_headers: dict[str, str] = Field(default={}, description="Headers for fetching `urls`.")


class DrawParameters(FindParameters):
    """What to draw."""

    draw_landmarks: bool = True
    draw_scores: bool = True
    draw_sizes: bool = True


class DrawRequest(DrawParameters):
    """Body of `POST /draw_detections`; the first image is drawn on."""

    images: Images
    img_req_headers: dict[str, str] = {}


class CompareRequest(FindParameters):
    """Body of `POST /compare`: exactly two images."""

    images: Images
    img_req_headers: dict[str, str] = {}


class Took(BaseModel):
    """Milliseconds."""

    total_ms: float
    read_imgs_ms: float | None = Field(default=None, description="Fetching and decoding, summed over the images.")
    embed_all_ms: float | None = Field(default=None, description="Aligning and embedding, summed over the images.")


class FaceAnswer(BaseModel):
    """One face. Pixels are those of the upright image; what was not asked for is null."""

    num_det: int = Field(description="Rank of this face among the image's detections.")
    prob: float = Field(description="Detection score, 0..1.")
    size: int = Field(description="Width of the box in pixels.")
    bbox: list[int] = Field(description="x1, y1, x2, y2; may reach over the image's edges.")
    scale: float = Field(description="Factor at which the detector saw the image.")
    landmarks: list[list[int]] | None = Field(description="Left eye, right eye, nose, left and right mouth corner.")
    norm: float | None = Field(description="Length of the raw embedding.")
    vec: list[float] | None = Field(description="The embedding, of length 1.")
    facedata: str | None = Field(description="Aligned crop, base64 JPEG.")
    gender: int | None = Field(description="0 female, 1 male.")
    age: int | None
    mask: bool | None
    mask_probs: dict[str, float] | None


class ImageAnswer(BaseModel):
    """One image."""

    status: str = Field(description="`success` or `error`; `ok` or `failed` where the server is set so.")
    took_ms: float
    faces: list[FaceAnswer]
    error: str | None = Field(default=None, description="Why the image failed; absent otherwise.")


class ExtractAnswer(BaseModel):
    """Answer of `POST /extract`."""

    took: Took
    data: list[ImageAnswer]


class CompareAnswer(BaseModel):
    """Answer of `POST /compare`."""

    took: Took
    model: str
    threshold: float = Field(description="Cosine from which two faces count as the same person.")
    faces: list[list[FaceAnswer]] = Field(description="Faces of the first and of the second image.")
    similarity: list[list[float]] = Field(description="Cosine of each face of the first with each of the second.")
    same: list[list[bool]]
