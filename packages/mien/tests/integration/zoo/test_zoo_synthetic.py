"""The synthetic files behave as their descriptions say, and the real decoders read them."""

import numpy as np
import onnxruntime as ort
import pytest

from mien.vision.detectors import build_detector
from mien.zoo.manifest import Input, Manifest, Source


def session_of(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_scrfd_file_finds_a_white_square_where_it_is(synthetic, tmp_path, ndim, side):
    session = session_of(synthetic.scrfd(tmp_path / "scrfd.onnx", ndim=ndim))
    assert all(len(node.shape) == ndim for node in session.get_outputs())
    spec = Input(name="input.1", multiple=32, mean=(127.5,) * 3, std=(128.0,) * 3)
    manifest = Manifest(
        name="scrfd",
        task="face_detection",
        family="scrfd",
        title="t",
        licence="l",
        credit="c",
        source=Source(kind="file"),
        input=spec,
    )
    detector = build_detector(manifest)
    image = np.zeros((480, 640, 3), np.uint8)
    x, y = 320 - side // 2, 256 - side // 2
    image[y : y + side, x : x + side] = 255
    prepared = detector.prepare(image, 640)
    names = [node.name for node in session.get_outputs()]
    found = session.run(None, {"input.1": prepared.tensor[None]})
    outputs = {name: value[0] if ndim == 3 else value for name, value in zip(names, found, strict=True)}
    faces = detector.decode(outputs, prepared, 0.8, 0.4, 10)
    assert len(faces) == 1
    np.testing.assert_allclose(faces.boxes[0], [x, y, x + side, y + side], atol=1)
    np.testing.assert_allclose(faces.scores[0], 1, atol=0.02)
    expected = synthetic.LANDMARKS * side / synthetic.FACE_CELLS + (320, 256)
    np.testing.assert_allclose(faces.landmarks[0], expected, atol=1)


def test_the_recogniser_file_tells_images_apart(synthetic, tmp_path):
    session = session_of(synthetic.arcface(tmp_path / "arcface.onnx", dim=512))
    x = np.random.default_rng(1).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32)
    (vectors,) = session.run(None, {"input.1": x})
    assert vectors.shape == (2, 512)
    a, b = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert a @ b < 0.5


def test_the_attribute_file_reads_colours(synthetic, tmp_path):
    session = session_of(synthetic.genderage(tmp_path / "genderage.onnx"))
    red = np.zeros((1, 3, 96, 96), np.float32)
    red[:, 0], red[:, 2] = 255, 127.5
    np.testing.assert_allclose(session.run(None, {"data": red})[0], [[0, 1, 0.5]], atol=1e-6)
