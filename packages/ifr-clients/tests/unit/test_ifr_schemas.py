import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients.schemas import BaseModelMod, FacesResponse, ImageResponse, RecognitionResponse

MINIMAL = {"bbox": [1, 2, 3, 4], "prob": 0.9, "num_det": 0, "scale": 1.0, "size": 2}


def test_keys_that_were_not_asked_for_may_be_missing():
    answer = RecognitionResponse.model_validate(
        {"took": {"total_ms": 1}, "data": [{"status": "ok", "faces": [MINIMAL]}]}
    )

    assert answer.data[0].faces[0].vec is None


def test_keys_that_this_library_does_not_know_are_kept():
    face = FacesResponse.model_validate({**MINIMAL, "mood": "good"})

    assert face.mood == "good"
    assert isinstance(face, BaseModelMod)


@pytest.mark.parametrize(
    ("image", "ok", "reason"),
    [
        ({"status": "success", "faces": []}, True, None),
        ({"status": "ok", "faces": [MINIMAL]}, True, None),
        ({"status": "error", "faces": [], "error": "no image"}, False, "no image"),
        ({"status": "failed", "faces": [], "traceback": "Can't decode"}, False, "Can't decode"),
        ({"status": "ok", "faces": [{"status": "failed", "traceback": "bad crop"}]}, False, "bad crop"),
        ({"status": "ok", "faces": [{**MINIMAL, "status": "ok"}]}, True, None),
        ({"status": "failed"}, False, "the server gave no reason"),
    ],
)
def test_an_image_says_whether_it_failed_in_the_words_of_either_server(image, ok, reason):
    answer = ImageResponse.model_validate(image)

    assert answer.ok is ok
    assert answer.reason == reason


def test_the_envelope_of_crops_is_the_same_as_any():
    answer = RecognitionResponse.model_validate({"took_ms": 4.5, "data": [], "status": "ok"})

    assert answer.took.total_ms == 4.5


faces = st.builds(
    FacesResponse,
    num_det=st.none() | st.integers(0, 1000),
    prob=st.none() | st.floats(0, 1),
    bbox=st.none() | st.lists(st.integers(-9999, 9999), min_size=4, max_size=4),
    vec=st.none() | st.lists(st.floats(-1, 1), max_size=8),
    facedata=st.none() | st.binary(),
    mask_probs=st.none() | st.fixed_dictionaries({"mask": st.floats(0, 1), "no_mask": st.floats(0, 1)}),
)


@given(st.lists(faces, max_size=3))
def test_a_typed_answer_survives_dumping(found):
    answer = RecognitionResponse(took={"total_ms": 1.0}, data=[ImageResponse(status="success", faces=found)])

    assert RecognitionResponse.model_validate(answer.model_dump()) == answer
    assert RecognitionResponse.model_validate_json(answer.model_dump_json()).data[0].ok
