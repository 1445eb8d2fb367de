"""From a manifest to a cache entry: fetch the source file, verify its hash, convert, publish."""

import shutil
from pathlib import Path

from mien.errors import ModelCorrupt, ModelError, ModelUnavailable
from mien.zoo.cache import ModelCache, source_key
from mien.zoo.convert import convert, require_recipe
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Manifest, Source
from mien.zoo.records import record_of, sha256_of
from mien.zoo.sources import fetch


def acquire(manifest: Manifest, cache: ModelCache, downloads: Downloads) -> Path:
    """The new entry's file. The caller holds the cache's lock.

    Raises ModelUnavailable, ModelCorrupt, ManifestInvalid.
    """
    if manifest.convert is not None:
        require_recipe(manifest.convert)  # before the download, which would be for nothing without it
    fetched, digest = _fetch_any(manifest, cache, downloads)
    with cache.staging() as staged:
        model = staged / f"model{_suffix(manifest, fetched)}"
        if manifest.convert is None:
            shutil.copyfile(fetched, model)
        else:
            convert(manifest.convert, fetched, model)
        record = record_of(
            model, source_sha256=digest, convert=manifest.convert, convert_revision=manifest.convert_revision
        )
        return cache.publish(staged, record)


def _fetch_any(manifest: Manifest, cache: ModelCache, downloads: Downloads) -> tuple[Path, str]:
    """The file of the first source that has the right one, and its hash."""
    failures: list[ModelError] = []
    for source in (manifest.source, *manifest.mirrors):
        try:
            fetched = fetch(source, downloads)
            return fetched, _checked_hash(manifest.name, source, fetched, cache)
        except (ModelUnavailable, ModelCorrupt) as error:
            failures.append(error)
    first = failures[0]
    if manifest.otherwise is None or isinstance(first, ModelCorrupt):
        raise first
    explained = ModelUnavailable(f"{first.message}; {manifest.otherwise}")
    raise explained from first


def _checked_hash(name: str, source: Source, fetched: Path, cache: ModelCache) -> str:
    digest = sha256_of(fetched)
    key = source_key(source)
    expected = source.sha256 or cache.ledger.pins.get(key)
    if expected is None:
        cache.ledger = cache.ledger.with_pin(key, digest)
    elif digest != expected.lower():
        pinned_by = "its manifest names" if source.sha256 else "it had when it was first pulled"
        raise ModelCorrupt(
            f"the file for {name} has the hash {digest[:12]}…, not {expected[:12]}… which {pinned_by}: "
            "it was changed or damaged on its way and is not used; try again or get it from another place"
        )
    return digest


def _suffix(manifest: Manifest, fetched: Path) -> str:
    return ".onnx" if manifest.convert is not None else fetched.suffix
