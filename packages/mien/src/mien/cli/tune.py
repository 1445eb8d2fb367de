"""`mien tune`: measures each model on this machine and saves the best plan."""

from rich.table import Table

from mien.cli.output import err, out
from mien.cli.pulling import pull_needed
from mien.engine.plan import thread_budget
from mien.engine.tune import measure, record_path, remember
from mien.errors import ModelError
from mien.faces.loading import detection_shape
from mien.inference.loading import TEXT_SHAPE, clip_text_shape, input_shape
from mien.inference.text_model import feed
from mien.inference.tokens import clip_feed
from mien.settings import Models, Settings
from mien.zoo.manifest import Manifest
from mien.zoo.selection import optional_models, required_models
from mien.zoo.zoo import Zoo

FEEDS = {"minilm": feed, "clip_text": clip_feed}
"""How a batch becomes the inputs of models with several, by family."""


def tune_models(settings: Settings, names: list[str] | None) -> None:
    """Measure the models one by one and print the results."""
    pull_needed(settings, names or ())
    zoo = Zoo.from_settings(settings)
    threads = thread_budget(settings.execution)
    table = Table("model", "lanes", "threads", "batch", "items/s", "one wide session, items/s")
    for name in names or _here(zoo, settings):
        manifest, path = zoo.manifest(name), zoo.locate(name)
        err.print(f"measuring {name} …")
        batches = (1, 2, 4, 8) if settings.execution.providers[0] == "cpu" else (1, 4, 16, 32, 64)
        tuning = measure(
            path,
            _shape(manifest, settings.models),
            threads=threads,
            providers=settings.execution.providers,
            batches=batches,
            feed=FEEDS.get(manifest.family),
        )
        remember(record_path(settings.locations.cache_dir, path, settings.execution.providers, threads), tuning)
        best = next(m for m in tuning.measurements if m.plan == tuning.plan)
        wide = max(m.items_per_second for m in tuning.measurements if m.lanes == 1)
        table.add_row(
            name,
            str(best.lanes),
            str(best.lane_threads),
            str(best.batch),
            f"{best.items_per_second:.0f}",
            f"{wide:.0f}",
        )
    out.print(table)


def _here(zoo: Zoo, settings: Settings) -> list[str]:
    """The models a server loads at startup. Models that are pulled later can be measured by name."""
    optional = [name for name in optional_models(settings.models) if zoo.record(name) is not None]
    return [name for name in (*required_models(settings.models), *optional) if zoo.manifest(name).family != "data"]


def _shape(manifest: Manifest, models: Models) -> tuple[int, ...]:
    if manifest.family == "minilm":
        return TEXT_SHAPE
    if manifest.text is not None:
        return clip_text_shape(manifest.text)
    if manifest.input is None:
        raise ModelError(f"{manifest.name}: only models that take images or texts can be measured")
    return detection_shape(models.detection_size) if manifest.task == "face_detection" else input_shape(manifest, 224)
