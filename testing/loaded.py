"""The built-in services on real models, without a server."""

from dataclasses import dataclass

from mien.builtin import Inference, OfferedServices, load_inference, open_fetcher
from mien.engine.admission import Admission
from mien.inference.registry import ServiceRegistry
from mien.metrics import Metrics
from mien.settings import Settings


@dataclass(frozen=True)
class Loaded:
    inference: Inference
    registry: ServiceRegistry
    metrics: Metrics


def load(settings: Settings) -> Loaded:
    """Loads the models that the settings name. Raises ModelError."""
    metrics, registry = Metrics(), ServiceRegistry()
    inference = load_inference(settings, metrics, open_fetcher(settings), Admission.from_settings(settings.limits))
    offered = OfferedServices(registry, inference.services)
    offered.refresh()

    async def models_changed() -> None:
        offered.refresh()

    inference.manager.listen(models_changed)
    return Loaded(inference, registry, metrics)
