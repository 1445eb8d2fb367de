"""The recognisers of a pipeline: the server's own, and those that requests may choose instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.errors import InvalidField, ModelError
from mien.vision.quality import Calibration, calibration_of
from mien.vision.recognition import normalise, recogniser_tensor
from mien.vision.types import Array, Image
from mien.zoo.manifest import Input, Manifest
from mien.zoo.on_demand import OnDemand


@dataclass(frozen=True, slots=True)
class Recogniser:
    """A model that embeds aligned crops."""

    name: str
    input: Input
    model: Model

    @property
    def calibration(self) -> Calibration:
        """What its embeddings' raw length says about quality."""
        return calibration_of(self.name)

    def embed(self, crops: Sequence[Image], scope: CancelScope) -> tuple[Array, Array]:
        """Unit vectors [N, D] of the crops, and their original lengths [N]. Raises what Model.run raises."""
        outputs = self.model.run([recogniser_tensor(crop, self.input) for crop in crops], scope)
        return normalise(np.stack([next(iter(output.values())).reshape(-1) for output in outputs]))


def recogniser_of(manifest: Manifest, model: Model) -> Recogniser:
    """Raises ValueError for a manifest without an input."""
    if manifest.input is None:
        raise ValueError(f"{manifest.name}: a recogniser's manifest needs an [input]")
    return Recogniser(manifest.name, manifest.input, model)


class Recognisers:
    """One recogniser that is always there, and others by name that are loaded when they are first wanted."""

    def __init__(
        self, default: Recogniser, others: Mapping[str, OnDemand[Recogniser]], manifests: Mapping[str, Manifest]
    ) -> None:
        """`manifests`: of all of them by name, the default's first."""
        self.default = default
        self.others = others
        self.manifests = manifests

    def wanted(self, name: str | None) -> list[OnDemand[Recogniser]]:
        """What has to be loaded for the recogniser called `name`; None: the default. Raises InvalidField."""
        chosen = chosen_recogniser(name, self.manifests)
        return [self.others[chosen.name]] if chosen.name in self.others else []

    def get(self, name: str | None) -> Recogniser:
        """Never waits. Raises InvalidField, and ModelUnavailable while it is being loaded."""
        return next((other.get() for other in self.wanted(name)), self.default)


def chosen_recogniser(name: str | None, manifests: Mapping[str, Manifest]) -> Manifest:
    """The one called `name`; None: the first. Raises InvalidField, which names those that there are."""
    if name is None:
        return next(iter(manifests.values()))
    if name not in manifests:
        message = f"recogniser: {name[:80]!r} cannot be chosen; this server has {', '.join(manifests)}"
        raise InvalidField(message, ({"type": "recogniser", "loc": ["recogniser"], "msg": message},))
    return manifests[name]


def same_threshold_of(recogniser: Manifest) -> float:
    """Cosine from which two faces count as the same person. Raises ModelError where the manifest has none."""
    if recogniser.same_threshold is None:
        raise ModelError(f"{recogniser.name}: its manifest has no same_threshold to compare with; give one")
    return recogniser.same_threshold
