"""Face detectors, one file per family."""

from mien.errors import ManifestInvalid
from mien.vision.detectors.base import Detector, Prepared
from mien.vision.detectors.centerface import DEFAULT_OUTPUTS, CenterFace
from mien.vision.detectors.scrfd import Scrfd
from mien.vision.detectors.yunet import YuNet
from mien.zoo.manifest import Input, Manifest

__all__ = ["Detector", "Prepared", "build_detector"]

DEFAULT_INPUTS = {
    "yunet": Input(name="input", channels="bgr", multiple=32),
    "centerface": Input(name="input.1", channels="rgb", multiple=32),
    "scrfd": Input(name="input.1", channels="rgb", mean=(127.5,) * 3, std=(128.0,) * 3, multiple=32),
}


def build_detector(manifest: Manifest) -> Detector:
    """The detector for `manifest`'s family. Raises ManifestInvalid if the family is not a face detector."""
    spec = manifest.input or DEFAULT_INPUTS.get(manifest.family)
    match manifest.family, spec:
        case "yunet", Input():
            return YuNet(manifest.name, spec)
        case "centerface", Input():
            return CenterFace(manifest.name, spec, manifest.outputs or DEFAULT_OUTPUTS)
        case "scrfd", Input():
            return Scrfd(manifest.name, spec, manifest.outputs)
    known = ", ".join(DEFAULT_INPUTS)
    raise ManifestInvalid(
        f"{manifest.name}: the family {manifest.family!r} is not a face detector; detectors are: {known}"
    )
