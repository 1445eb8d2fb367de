"""Responses as pydantic models. Keys the server omits are None; extra keys are kept."""

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, model_validator

_DONE = ("success", "ok")


class BaseModelMod(BaseModel):
    """Base of all responses: unknown keys are kept as attributes."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Took(BaseModelMod):
    """Milliseconds."""

    total_ms: float | None = None
    read_imgs_ms: float | None = None
    """Reading the images; with `verbose_timings`."""
    embed_all_ms: float | None = None
    """Computing the embeddings; with `verbose_timings`."""


class Pose(BaseModelMod):
    """Where a face looks, in degrees; all 0: straight into an upright camera."""

    yaw: float | None = None
    """Positive: turned to the left edge of the image. None: the server has no pose model."""
    pitch: float | None = None
    """Positive: looking up. None: the server has no pose model."""
    roll: float
    """-180..180; positive: leaning clockwise as seen in the image."""


class FacesResponse(BaseModelMod):
    """One face. Pixels are those of the image that was sent."""

    num_det: int | None = None
    """Rank of this face among the image's detections."""
    prob: float | None = None
    """Detection score, 0..1."""
    size: int | None = None
    """Width of the bounding box in pixels."""
    bbox: list[int] | None = None
    """x1, y1, x2, y2; may extend beyond the image's edges."""
    landmarks: list[list[int | float]] | None = None
    """Left eye, right eye, nose, left and right mouth corner, each x, y; with `return_landmarks`."""
    norm: float | None = None
    """Length of the raw embedding."""
    vec: list[float] | None = None
    """The embedding, of length 1; with `extract_embedding`."""
    facedata: bytes | str | None = None
    """The aligned 112x112 crop as JPEG; with `return_face_data`. The clients decode its base64."""
    scale: float | None = None
    """Factor by which the image was scaled for detection."""
    gender: int | None = None
    """0 female, 1 male; with `extract_ga`."""
    age: int | None = None
    """Years; with `extract_ga`."""
    mask: bool | None = None
    """Whether the face wears a mask; with `detect_masks`."""
    mask_probs: dict[str, float] | None = None
    quality: float | None = None
    """How far the embedding can be trusted, 0..1; with `return_quality`."""
    pose: Pose | None = None
    """Where the face looks; with `return_pose`."""
    landmarks_68: list[list[float]] | None = None
    """x, y of contour, brows, nose, eyes and lips; with `return_landmarks_68`."""
    status: str | None = None
    """Set by original servers, for crops only."""
    traceback: str | None = None

    @field_serializer("facedata", when_used="json-unless-none")
    def _as_base64(self, value: bytes | str) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class ImageResponse(BaseModelMod):
    """One image: its faces, or why there are none."""

    status: str = "success"
    """`success` or `error`; original servers send `ok` or `failed`."""
    took_ms: float | None = None
    faces: list[FacesResponse] | None = None
    error: str | None = None
    """Why the image failed."""
    traceback: str | None = None
    """The same from an original server."""

    @property
    def ok(self) -> bool:
        """Whether the image was processed, for either kind of server; it may still have no faces."""
        return self.status in _DONE and all(face.status in (None, *_DONE) for face in self.faces or ())

    @property
    def reason(self) -> str | None:
        """Why the image failed, for either kind of server; None if it did not."""
        if self.ok:
            return None
        reasons = (self.error, self.traceback, *(face.traceback for face in self.faces or ()))
        return next((reason for reason in reasons if reason), "the server gave no reason")


class RecognitionResponse(BaseModelMod):
    """The response of `extract`: one entry of `data` per image, in order."""

    took: Took
    data: list[ImageResponse]
    model: str | None = None
    """Who embedded the faces; with `recogniser`."""
    same_threshold: float | None = None
    """Minimum cosine at which two faces count as the same person; with `recogniser`."""

    @model_validator(mode="before")
    @classmethod
    def _one_envelope(cls, response: Any) -> Any:
        """For crops, original servers send `took_ms` instead of `took`."""
        if not isinstance(response, dict) or response.get("took") is not None:
            return response
        return {**response, "took": {"total_ms": response.get("took_ms")}}


class CompareResponse(BaseModelMod):
    """The response of `compare`."""

    took: Took
    model: str
    threshold: float
    """Minimum cosine at which two faces count as the same person."""
    same_threshold: float | None = None
    """The same, if the call has set it."""
    faces: list[list[FacesResponse]]
    """Faces of the first and of the second image."""
    similarity: list[list[float]]
    """Cosine of each face of the first image with each face of the second."""
    same: list[list[bool]]
