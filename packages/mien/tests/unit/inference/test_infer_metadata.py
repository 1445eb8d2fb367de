"""Metadata strings become options or an error that names the key; never anything else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import InvalidField
from mien.faces.face_v1 import FACE_KEYS, face_options
from mien.faces.pipeline import FaceOptions
from mien.inference import metadata
from mien.inference.ocr import read_options


def options(**given_keys: str) -> FaceOptions:
    return face_options(given_keys, 0.6, embedding=True)


def test_nothing_given_is_the_servers_defaults() -> None:
    assert options() == FaceOptions(threshold=0.6, embedding=True, landmarks=True)


def test_all_five_keys_are_understood() -> None:
    found = options(
        detection_confidence_threshold=" 0.5 ",
        nms_threshold="0.4567",
        face_size_min="50.0",
        face_size_max="1e3",
        max_faces="+7",
    )
    assert (found.threshold, found.nms_threshold, found.min_size, found.max_size, found.limit) == (
        0.5,
        0.4567,
        50,
        1000,
        7,
    )


@pytest.mark.parametrize(
    ("sent", "meant"), [(" 640 ", 640), ("auto", "auto"), ("full", "full"), ("", None), (" ", None)]
)
def test_the_detection_size_is_a_number_or_a_word(sent: str, meant: object) -> None:
    assert options(detection_size=sent).detection_size == meant


@pytest.mark.parametrize("unlimited", ["-1", "0", "", "  "])
def test_minus_one_and_zero_mean_all_faces(unlimited: str) -> None:
    assert options(max_faces=unlimited).limit == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("detection_confidence_threshold", "7"),
        ("detection_confidence_threshold", "-0.1"),
        ("detection_confidence_threshold", "nan"),
        ("detection_confidence_threshold", "0,5"),
        ("nms_threshold", "1.01"),
        ("nms_threshold", "inf"),
        ("face_size_min", "-1"),
        ("face_size_max", "big"),
        ("face_size_max", "1_000"),
        ("face_size_max", "1e999"),
        ("max_faces", "-2"),
        ("max_faces", "2.0"),
        ("max_faces", "9" * 5000),
        ("max_faces", "٣x"),
        ("detection_size", "63"),
        ("detection_size", "4097"),
        ("detection_size", "big"),
        ("detection_size", "640.5"),
        ("detection_size", "٦٤٠"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(InvalidField, match=key) as caught:
        options(**{key: value})
    assert caught.value.fields[0]["loc"] == ["metadata", key]


def test_a_least_size_over_the_largest_is_refused() -> None:
    with pytest.raises(InvalidField, match="face_size_min"):
        options(face_size_min="100", face_size_max="50")
    assert options(face_size_min="100", face_size_max="0").max_size == 0


@pytest.mark.parametrize("key", ["TopK", "topK", "top_k", "top-k", "topk", "lumen.top_k"])
def test_every_spelling_of_top_k_is_read_and_clamped(key: str) -> None:
    assert metadata.top_k({key: "3"}, 5, 1000) == 3
    assert metadata.top_k({key: "5000"}, 5, 1000) == 1000
    for wrong in ("0", "-1", "many", "2.5"):
        with pytest.raises(InvalidField, match=key):
            metadata.top_k({key: wrong}, 5, 1000)


def test_top_k_defaults_and_contradictions() -> None:
    assert metadata.top_k({}, 5, 1000) == 5
    assert metadata.top_k({"topk": "2", "TopK": "2"}, 5, 1000) == 2
    with pytest.raises(InvalidField, match="disagree"):
        metadata.top_k({"topk": "2", "TopK": "3"}, 5, 1000)


def test_strict_mode_names_unknown_keys_and_knows_the_apis_own() -> None:
    metadata.check_known({"max_faces": "1", "timeout_ms": "5"}, FACE_KEYS)
    with pytest.raises(InvalidField, match=r"metadata max_face: unknown metadata.*max_faces"):
        metadata.check_known({"max_face": "1"}, FACE_KEYS)


def test_reading_options() -> None:
    assert read_options({"use_angle_cls": "False", "ocr.unclip_ratio": "2"}).turned is False
    with pytest.raises(InvalidField, match="use_angle_cls"):
        read_options({"use_angle_cls": "maybe"})
    with pytest.raises(InvalidField, match=r"ocr.box_thresh"):
        read_options({"ocr.box_thresh": "2"})


def accepted(given_keys: dict[str, str]) -> FaceOptions | None:
    """The options, None where they were refused under the name of a key that was given."""
    try:
        return face_options(given_keys, 0.6, embedding=False)
    except InvalidField as error:
        named = error.fields[0]["loc"][1]
    assert named in given_keys
    return None


@given(st.dictionaries(st.sampled_from(FACE_KEYS), st.text(max_size=12) | st.floats().map(str)))
def test_face_metadata_gives_sane_options_or_an_error_that_names_a_key(given_keys: dict[str, str]) -> None:
    found = accepted(given_keys)
    if found is not None:
        assert 0 <= found.threshold <= 1
        assert found.nms_threshold is None or 0 <= found.nms_threshold <= 1
        assert found.limit >= 0
        assert found.min_size >= 0
        assert math.isfinite(found.max_size)
        assert found.max_size == 0 or found.max_size >= found.min_size


@given(st.floats(0, 1).map(lambda x: f"{x:.3f}"), st.floats(0, 4000).map(lambda x: f"{x:.1f}"), st.integers(-1, 10**6))
def test_what_gateways_write_reads_back(share: str, pixels: str, count: int) -> None:
    found = options(detection_confidence_threshold=share, face_size_max=pixels, max_faces=str(count))
    assert (found.threshold, found.max_size, found.limit) == (float(share), float(pixels), max(0, count))
