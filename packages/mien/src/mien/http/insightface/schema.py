"""Requests of this API as pydantic models that validate them, responses as the types that are rendered."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    InstanceOf,
    WithJsonSchema,
    model_validator,
)

from mien.detection_size import LEAST, MOST, parse_detection_size
from mien.inference.results import FaceExtras, OptionalVector


def _binary_or_text(value: Any) -> Any:
    """Image bytes must not go through pydantic's UTF-8 decoding."""
    if isinstance(value, bytes | str | memoryview):
        return value
    raise ValueError("expected an encoded image: bytes in MessagePack, base64 text in JSON")


def _few(value: Any) -> Any:
    """Each wrong entry of a map would be an error of its own."""
    if isinstance(value, dict) and len(value) > MAX_HEADERS:
        raise ValueError(f"expected at most {MAX_HEADERS} headers; got {len(value)}")
    return value


def _negative_is_zero(value: int) -> int:
    """Clients of the original server write -1 for what 0 means: no limit."""
    return max(0, value)


MAX_HEADERS = 20
EncodedImage = Annotated[
    bytes | str | InstanceOf[memoryview],
    BeforeValidator(_binary_or_text),
    WithJsonSchema({"type": "string", "description": "Base64 or bytes."}),
]
"""A memoryview is a long text: see `decode`."""
Pixels = Annotated[int, Field(le=100_000), AfterValidator(_negative_is_zero)]
Count = Annotated[int, Field(le=100_000), AfterValidator(_negative_is_zero)]
DetectionSize = Annotated[
    Annotated[int, Field(ge=LEAST, le=MOST)] | Literal["auto", "full"] | None, BeforeValidator(parse_detection_size)
]
Headers = Annotated[dict[str, str], BeforeValidator(_few)]


OR_SERVERS = "Default: this, unless the server is set otherwise (`/info`)."


class NullMeansDefault(BaseModel):
    """Unknown fields are ignored and null means the default, as clients of the original server expect."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Images(NullMeansDefault):
    """The images: `urls` if there are any, else `data`."""

    data: Annotated[list[EncodedImage], FailFast()] = Field(
        default=[], description="Encoded images: base64 text (a `data:` prefix is fine), or bytes in MessagePack."
    )
    urls: Annotated[list[str], FailFast()] = Field(
        default=[], description="http(s) URLs, or paths under the server's images root."
    )


class FindParameters(NullMeansDefault):
    """What to look for: shared by every route that finds faces."""

    threshold: float = Field(
        default=0.6, ge=0, le=1, description="Least detection score, 0..1. Default: the server's, 0.6."
    )
    limit_faces: Count = Field(default=0, description="Most faces per image, the largest; 0 and negative numbers: all.")
    min_face_size: Pixels = Field(default=0, description="Least width of a face's box in pixels; 0 or less: any.")
    detect_masks: bool = Field(default=False, description=f"Say whether each face wears a mask. {OR_SERVERS}")
    detection_size: DetectionSize = Field(
        default=None,
        description="Longest side in pixels (64 to 4096) to which images are scaled down to find faces; `auto`: as "
        "large as faces of 20 pixels need; `full`: not scaled down. Default: the server's, `auto`.",
    )
    rotate: Literal["auto", "off"] | None = Field(
        default=None,
        description="`auto`: also faces that lie on their side or are upside down. Default: the server's, `auto`.",
    )


class DescribeParameters(FindParameters):
    """What else to say of each face: shared by the routes that return faces."""

    recogniser: str | None = Field(
        default=None,
        max_length=200,
        validation_alias=AliasChoices("recogniser", "recognizer"),
        description="Who embeds the faces: one of `recognisers` in `/info`. Default: the server's.",
    )
    return_quality: bool = Field(default=False, description="Say how far each face's embedding can be trusted.")
    return_pose: bool = Field(default=False, description="Estimate where each face looks: yaw, pitch and roll.")
    return_landmarks_68: bool = Field(default=False, description="Return 68 landmarks.")


class ExtractParameters(DescribeParameters):
    """Everything about an extraction but the images."""

    extract_embedding: bool = Field(default=True, description=f"Compute the face embeddings. {OR_SERVERS}")
    return_landmarks: bool = Field(default=False, description=f"Return the five landmarks. {OR_SERVERS}")
    return_face_data: bool = Field(
        default=False, description=f"Return the aligned 112x112 crops (base64 JPEG). {OR_SERVERS}"
    )
    embed_only: bool = Field(default=False, description="The images are aligned 112x112 crops already.")
    extract_ga: bool = Field(default=False, description=f"Estimate age and gender. {OR_SERVERS}")
    verbose_timings: bool = Field(default=False, description="Return where the time went.")
    msgpack: bool = Field(default=False, description="Answer in MessagePack.")


class ExtractRequest(ExtractParameters):
    """Body of `POST /extract`."""

    images: Images
    img_req_headers: Headers = Field(default={}, description="Headers for fetching `urls`.")


class DrawParameters(FindParameters):
    """What to draw."""

    draw_landmarks: bool = True
    draw_scores: bool = True
    draw_sizes: bool = True


class DrawRequest(DrawParameters):
    """Body of `POST /draw_detections`; the first image is drawn on."""

    images: Images
    img_req_headers: Headers = {}


class CompareParameters(DescribeParameters):
    """Everything about a comparison but the images."""

    same_threshold: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Cosine from which two faces count as the same person, -1..1. Default: the recogniser's (`/info`).",
    )
    msgpack: bool = Field(default=False, description="Answer in MessagePack.")


class CompareRequest(CompareParameters):
    """Body of `POST /compare`: exactly two images."""

    images: Images
    img_req_headers: Headers = {}


class Took(TypedDict):
    """Milliseconds."""

    total_ms: float
    read_imgs_ms: NotRequired[Annotated[float, Meta(description="Fetching and decoding, summed over the images.")]]
    embed_all_ms: NotRequired[Annotated[float, Meta(description="Aligning and embedding, summed over the images.")]]


class MaskProbabilities(TypedDict):
    """How likely the face wears a mask, and does not."""

    mask: float
    no_mask: float


class FaceAnswer(FaceExtras):
    """One face. Pixels are those of the upright image; what was not asked for is null, or absent."""

    num_det: Annotated[int, Meta(description="Rank of this face among the image's detections.")]
    prob: Annotated[float, Meta(description="Detection score, 0..1.")]
    size: Annotated[int, Meta(description="Width of the box in pixels.")]
    bbox: Annotated[list[int], Meta(description="x1, y1, x2, y2; may reach over the image's edges.")]
    scale: Annotated[float, Meta(description="Factor at which the detector saw the image.")]
    landmarks: Annotated[
        list[list[int]] | None, Meta(description="Left eye, right eye, nose, left and right mouth corner.")
    ]
    norm: Annotated[float | None, Meta(description="Length of the raw embedding.")]
    vec: Annotated[OptionalVector, Meta(description="The embedding, of length 1.")]
    facedata: Annotated[str | None, Meta(description="Aligned crop, base64 JPEG.")]
    gender: Annotated[int | None, Meta(description="0 female, 1 male.")]
    age: int | None
    mask: bool | None
    mask_probs: MaskProbabilities | None
    status: NotRequired[
        Annotated[str, Meta(description="`ok`: of a crop, with `embed_only` where the words are `ok` and `failed`.")]
    ]


class FailedCrop(TypedDict):
    """In place of a face: a crop that failed, with `embed_only` where the words are `ok` and `failed`."""

    status: Literal["failed"]
    traceback: str


_FAILED_CROP = {
    "type": "object",
    "description": "A crop that failed, with `embed_only` where the words are `ok` and `failed`.",
    "properties": {"status": {"const": "failed"}, "traceback": {"type": "string"}},
    "required": ["status", "traceback"],
}
"""FailedCrop: msgspec describes no list of either of two objects."""


class ImageAnswer(TypedDict):
    """One image."""

    status: Annotated[str, Meta(description="`success` or `error`; `ok` or `failed` where the server is set so.")]
    took_ms: float
    faces: Annotated[
        Any,
        Meta(
            extra_json_schema={
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/components/schemas/FaceAnswer"}, _FAILED_CROP]},
            }
        ),
    ]
    error: NotRequired[Annotated[str, Meta(description="Why the image failed; absent otherwise.")]]
    traceback: NotRequired[Annotated[str, Meta(description="The same, where the words are `ok` and `failed`.")]]


class ExtractAnswer(TypedDict):
    """Answer of `POST /extract`."""

    took: Took
    data: list[ImageAnswer]
    model: NotRequired[Annotated[str, Meta(description="The recogniser; with `recogniser`.")]]
    same_threshold: NotRequired[
        Annotated[float | None, Meta(description="Cosine from which two faces are the same person; with `recogniser`.")]
    ]
    took_ms: NotRequired[Annotated[float, Meta(description="With `embed_only` and the words `ok` and `failed`.")]]
    status: NotRequired[str]


class CompareAnswer(TypedDict):
    """Answer of `POST /compare`."""

    took: Took
    model: str
    threshold: Annotated[float, Meta(description="Cosine from which two faces count as the same person.")]
    same_threshold: NotRequired[Annotated[float, Meta(description="The same, if the request has set it.")]]
    faces: Annotated[list[list[FaceAnswer]], Meta(description="Faces of the first and of the second image.")]
    similarity: Annotated[
        Any,
        Meta(
            description="Cosine of each face of the first with each of the second.",
            extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        ),
    ]
    same: Annotated[
        Any, Meta(extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}})
    ]


class SelfCheckPassed(TypedDict):
    """Answer of `GET /health`."""

    status: Literal["ok"]


class SelfCheckFailed(TypedDict):
    """Answer of `GET /health` if the face is not found, or could not be looked for."""

    detail: str


class InfoRecogniser(TypedDict):
    """A recogniser that requests may choose."""

    name: str
    embedding_dim: int | None
    same_threshold: float | None


class InfoModels(TypedDict):
    """The models in use."""

    inference_backend: str
    providers: list[str]
    det_name: str
    rec_name: str
    pipeline: Annotated[int, Meta(description="Version of what embeddings are computed from besides the models.")]
    max_size: Annotated[list[int], Meta(description="Greatest sides of the detector's input in pixels.")]
    ga_name: str | None
    mask_detector: str | None
    rec_batch_size: int
    det_batch_size: int
    embedding_dim: int | None
    same_threshold: float | None
    recognisers: NotRequired[
        Annotated[list[InfoRecogniser], Meta(description="Those that requests may choose, the default first.")]
    ]
    force_fp16: bool
    triton_uri: None


class InfoDefaults(TypedDict):
    """What parameters are if a request does not say."""

    return_face_data: bool
    return_landmarks: bool
    extract_embedding: bool
    extract_ga: bool
    detect_masks: bool
    det_thresh: float
    img_req_headers: Annotated[
        dict[str, str], Meta(description="The headers that images are fetched with; their values are masked.")
    ]
    sslv3_hack: bool


class InfoLimits(TypedDict):
    """Limits of a request."""

    max_images: int
    max_body_bytes: int
    max_image_bytes: int
    max_pixels: int


class Info(TypedDict):
    """Answer of `GET /info`."""

    version: str
    tensorrt_version: None
    log_level: str
    models: InfoModels
    defaults: InfoDefaults
    limits: InfoLimits
