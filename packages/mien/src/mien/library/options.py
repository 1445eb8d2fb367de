"""What may be said with each search for faces."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypedDict

from pydantic import TypeAdapter, ValidationError

from mien.detection_size import DetectionSize, parse_detection_size
from mien.errors import InvalidField
from mien.faces.pipeline import FaceOptions


class Options(TypedDict, total=False):
    """The fields of FaceOptions, each with its default where it is not given; the threshold's is the settings'."""

    threshold: float
    nms_threshold: float | None
    embedding: bool
    recogniser: str | None
    landmarks: bool
    crops: bool
    attributes: bool
    masks: bool
    quality: bool
    pose: bool
    landmarks_68: bool
    limit: int
    min_size: float
    max_size: float
    detection_size: DetectionSize | None
    rotate: Literal["auto", "off"] | None


_FIELDS: TypeAdapter[FaceOptions] = TypeAdapter(FaceOptions)


def options_of(given: Mapping[str, Any], default_threshold: float) -> FaceOptions:
    """The options of one search. Raises InvalidField, which names what was wrong."""
    if unknown := sorted(set(given) - {field.name for field in fields(FaceOptions)}):
        raise InvalidField(f"unknown options: {', '.join(unknown)}")
    try:
        options = _FIELDS.validate_python({"threshold": default_threshold, **given})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise InvalidField("; ".join(problems)) from None
    if not 0 <= options.threshold <= 1:
        raise InvalidField(f"threshold: expected a number from 0 to 1, got {options.threshold}")
    if options.detection_size is not None:
        try:
            parse_detection_size(options.detection_size)
        except ValueError as error:
            raise InvalidField(f"detection_size: {error}, got {options.detection_size}") from None
    return options
