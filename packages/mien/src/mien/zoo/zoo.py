"""The models that this machine has or can get, by name."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from mien.errors import ConsentRequired, ModelError, ModelUnavailable, ModelUnknown
from mien.settings import Settings
from mien.zoo.acquire import acquire
from mien.zoo.bundled_files import bundled_file
from mien.zoo.cache import ModelCache
from mien.zoo.downloads import Downloads, open_downloads
from mien.zoo.manifest import Manifest, find, load_manifests
from mien.zoo.progress import Progress, Silent
from mien.zoo.records import Record


class Zoo:
    """Finds models in the cache and pulls missing ones. Several processes and threads can use one cache."""

    def __init__(self, models_dir: Path, manifests: dict[str, Manifest], *, offline: bool = False) -> None:
        self.manifests = manifests
        self._models_dir = models_dir
        self._downloads_dir = models_dir.parent / "downloads"
        self._offline = offline

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The zoo of the built-in manifests and the user's. Raises ManifestInvalid."""
        where = settings.locations
        return cls(where.models_dir, load_manifests(where.manifests_dir), offline=settings.models.offline)

    def manifest(self, name: str) -> Manifest:
        """The manifest called `name`. Raises ModelUnknown."""
        return find(self.manifests, name)

    def members(self, set_or_name: str) -> list[Manifest]:
        """The manifests of a set, or the one manifest of that name. Raises ModelUnknown that lists both."""
        if set_or_name in self.manifests:
            return [self.manifests[set_or_name]]
        members = [manifest for manifest in self.manifests.values() if set_or_name in manifest.sets]
        if not members:
            raise ModelUnknown(
                f"no model or set is called {set_or_name!r}; sets: {', '.join(self.sets())}; "
                f"models: {', '.join(self.manifests)}"
            )
        return members

    def sets(self) -> list[str]:
        """The names of all sets."""
        return sorted({name for manifest in self.manifests.values() for name in manifest.sets})

    def record(self, name: str) -> Record | None:
        """The cache's record of a model; None when it is not cached. Raises ModelUnknown, ModelCorrupt."""
        return ModelCache(self._models_dir, self.manifest(name)).record()

    def find(self, name: str) -> Path | None:
        """The file of a model that is on this machine, its hash checked: from the cache or, failing that, from Mien's
        own package; None when it is not here. Raises ModelUnknown, ModelCorrupt.
        """
        manifest = self.manifest(name)
        return ModelCache(self._models_dir, manifest).find() or bundled_file(manifest)

    def locate(self, name: str) -> Path:
        """The file of a model, its hash checked.

        Raises ModelUnknown, ModelUnavailable when it is not here, ModelCorrupt when its hash is wrong.
        """
        path = self.find(name)
        if path is None:
            raise ModelUnavailable(f"the model {name} is not on this machine: run `mien models pull {name}`")
        return path

    def pull(self, name: str, *, consent: bool = False, force: bool = False, progress: Progress | None = None) -> Path:
        """The file of a model, acquired, verified and converted first where it is missing.

        `consent` accepts the licence of a non-commercial model for good; `force` replaces the cache's entry.
        Raises ConsentRequired, ModelUnavailable, ModelCorrupt, ManifestInvalid.
        """
        with open_downloads(self._downloads_dir, progress or Silent()) as downloads:
            return self._pull(self.manifest(name), downloads, consent=consent, force=force)

    def pull_all(
        self, names: Iterable[str], *, consent: bool = False, force: bool = False, progress: Progress | None = None
    ) -> Iterator[tuple[Manifest, Path | ModelError]]:
        """Pulls several models, each shared package once; yields the outcome of each as it ends."""
        manifests = [self.manifest(name) for name in names]
        with open_downloads(self._downloads_dir, progress or Silent()) as downloads:
            for manifest in manifests:
                yield manifest, self._try_pull(manifest, downloads, consent=consent, force=force)

    def ensure(self, name: str, *, progress: Progress | None = None) -> Path:
        """The file of a model; pulls it where it is missing, unless that needs new consent.

        Raises what `locate` and `pull` raise.
        """
        return self.find(name) or self.pull(name, progress=progress)

    def ensure_all(self, names: Iterable[str], *, progress: Progress | None = None) -> dict[str, Path]:
        """`ensure` for several models; each shared package is downloaded once. Raises the first failure."""
        found = {name: self.find(name) for name in names}
        paths = {name: path for name, path in found.items() if path is not None}
        missing = [name for name in found if name not in paths]
        if missing:
            for manifest, outcome in self.pull_all(missing, progress=progress):
                if isinstance(outcome, ModelError):
                    raise outcome
                paths[manifest.name] = outcome
        return paths

    def _try_pull(self, manifest: Manifest, downloads: Downloads, *, consent: bool, force: bool) -> Path | ModelError:
        try:
            return self._pull(manifest, downloads, consent=consent, force=force)
        except ModelError as error:
            return error

    def _pull(self, manifest: Manifest, downloads: Downloads, *, consent: bool, force: bool) -> Path:
        cache = ModelCache(self._models_dir, manifest)
        _require_consent(manifest, cache, consent)
        with cache.locked():
            if consent and manifest.non_commercial:
                cache.ledger = cache.ledger.with_consent(manifest.licence)
            if not force and (found := cache.find() or bundled_file(manifest)):
                return found
            if self._offline and manifest.source.kind != "file":
                raise ModelUnavailable(
                    f"the model {manifest.name} is not on this machine and MIEN_OFFLINE forbids getting it: "
                    "copy the models folder of another machine's cache here, or unset MIEN_OFFLINE"
                )
            return acquire(manifest, cache, downloads)


def _require_consent(manifest: Manifest, cache: ModelCache, consent: bool) -> None:
    if manifest.non_commercial and not consent and not cache.ledger.consented_to(manifest.licence):
        raise ConsentRequired(
            f"{manifest.name} may not be used commercially ({manifest.licence}): "
            f"run `mien models pull {manifest.name} --accept-non-commercial` if you accept that"
        )
