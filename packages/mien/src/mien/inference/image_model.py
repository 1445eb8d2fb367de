"""The image model that embedding and classification share."""

from dataclasses import dataclass

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.vision.imagenet import imagenet_tensor
from mien.vision.types import Image, Outputs
from mien.zoo.manifest import Input

PROBABILITIES, EMBEDDING = "probabilities", "embedding"


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A loaded model of the family `imagenet`."""

    name: str
    spec: Input
    model: Model
    labels: tuple[str, ...]
    """Names of its classes, in the order of its outputs."""

    def run(self, image: Image, scope: CancelScope) -> Outputs:
        """`probabilities` [classes] and `embedding` [D] of an image, float32. Blocks; raises what Model.run raises."""
        (outputs,) = self.model.run([imagenet_tensor(image, self.spec)], scope)
        return outputs
