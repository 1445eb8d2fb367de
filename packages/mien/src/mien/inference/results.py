"""The schemas of the built-in services' results, `NAME_v1` in `result_schema`, as the types that are rendered."""

from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from msgspec import Meta

Vector: TypeAlias = Annotated[
    Any,  # a numpy array, which the encoders write natively
    Meta(extra_json_schema={"type": "array", "items": {"type": "number"}}),
]
OptionalVector: TypeAlias = Annotated[
    Any, Meta(extra_json_schema={"type": ["array", "null"], "items": {"type": "number"}})
]

OptionalPoints: TypeAlias = Annotated[
    Any, Meta(extra_json_schema={"type": ["array", "null"], "items": {"type": "array", "items": {"type": "number"}}})
]


class PoseAnswer(TypedDict):
    """Where a face looks, in degrees; all 0: straight into an upright camera."""

    yaw: Annotated[
        float | None,
        Meta(description="Positive: turned to the left edge of the image. Null: this server has no pose model."),
    ]
    pitch: Annotated[float | None, Meta(description="Positive: looking up. Null: this server has no pose model.")]
    roll: Annotated[float, Meta(description="-180..180; positive: leaning clockwise as seen in the image.")]


class FaceExtras(TypedDict):
    """What a face only has if it was asked for."""

    quality: NotRequired[Annotated[float, Meta(description="0..1; with `return_quality`.")]]
    pose: NotRequired[Annotated[PoseAnswer, Meta(description="With `return_pose`.")]]
    landmarks_68: NotRequired[
        Annotated[
            OptionalPoints,
            Meta(description="x, y of each; with `return_landmarks_68`. Null: this server has no model for it."),
        ]
    ]


class FaceV1Face(FaceExtras):
    """One face of `face_v1`."""

    bbox: Annotated[Vector, Meta(description="x1, y1, x2, y2 in pixels, within the image.")]
    confidence: Annotated[float, Meta(description="0..1")]
    landmarks: Annotated[Vector, Meta(description="x and y of left eye, right eye, nose, left and right mouth corner.")]
    embedding: Annotated[OptionalVector, Meta(description="Of length 1; null from `face_detection`.")]


class FaceV1(TypedDict):
    """The faces of an image."""

    faces: list[FaceV1Face]
    count: int
    model_id: str
    same_threshold: NotRequired[
        Annotated[float | None, Meta(description="Cosine from which two faces are the same person; with `recogniser`.")]
    ]


class Label(TypedDict):
    """One class of `labels_v1`."""

    label: str
    score: Annotated[Any, Meta(description="0..1", extra_json_schema={"type": "number"})]


class LabelsV1(TypedDict):
    """The likeliest classes of an image, the best first."""

    labels: list[Label]
    model_id: str


class EmbeddingV1(TypedDict):
    """The vector of an image or a text."""

    vector: Vector
    dim: int
    model_id: str


class OcrLine(TypedDict):
    """One line of `ocr_v1`."""

    box: Annotated[
        Any,
        Meta(
            description="The four corners in pixels.",
            extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        ),
    ]
    text: str
    confidence: Annotated[float, Meta(description="0..1")]


class OcrV1(TypedDict):
    """The lines of text in an image."""

    items: list[OcrLine]
    count: int
    model_id: str
