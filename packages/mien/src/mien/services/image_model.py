"""The image model that embedding and classification share."""

from dataclasses import dataclass

from mien.engine.call import Call
from mien.engine.engine import Model
from mien.vision.imagenet import imagenet_tensor
from mien.vision.types import Outputs, Picture
from mien.zoo.manifest import Input

PROBABILITIES, EMBEDDING = "probabilities", "embedding"


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A loaded model of the family `imagenet`."""

    name: str
    spec: Input
    model: Model

    def run(self, picture: Picture, call: Call) -> Outputs:
        """`probabilities` [classes] and `embedding` [D] of a picture, float32. Blocks; raises as Model.run does."""
        (outputs,) = self.model.run([imagenet_tensor(picture, self.spec)], call)
        return outputs
