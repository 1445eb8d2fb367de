"""Pulling: consent, offline, hashes, mirrors, force."""

import hashlib
from pathlib import Path

import pytest

from mien.errors import ConsentRequired, ManifestInvalid, ModelCorrupt, ModelError, ModelUnavailable, ModelUnknown
from mien.zoo.manifest import Source

GONE = Source(kind="file", path=str(Path("/nowhere").absolute() / "model.onnx"))


def test_a_pulled_model_is_located_with_the_same_bytes(zoo_of, manifest_of, weights):
    zoo = zoo_of(manifest_of())
    with pytest.raises(ModelUnavailable, match="mien models pull mine"):
        zoo.locate("mine")
    assert zoo.pull("mine") == zoo.locate("mine") == zoo.ensure("mine")
    assert zoo.locate("mine").read_bytes() == weights.read_bytes()
    assert zoo.record("mine").source_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_non_commercial_model_needs_consent_once(zoo_of, manifest_of):
    zoo = zoo_of(manifest_of(non_commercial=True))
    for attempt in (zoo.pull, zoo.ensure):
        with pytest.raises(ConsentRequired, match="--accept-non-commercial"):
            attempt("mine")
    zoo.pull("mine", consent=True)
    assert zoo.pull("mine", force=True)


def test_consent_to_one_licence_is_none_to_its_successor(zoo_of, manifest_of):
    zoo_of(manifest_of(non_commercial=True)).pull("mine", consent=True)
    with pytest.raises(ConsentRequired):
        zoo_of(manifest_of(non_commercial=True, licence="stricter")).pull("mine")


def test_offline_nothing_is_acquired_but_the_cache_and_local_files_serve(zoo_of, manifest_of):
    package = manifest_of("far", Source(kind="pypi", package="a==1", path="a/b"))
    zoo = zoo_of(manifest_of(), package, offline=True)
    assert zoo.ensure("mine").is_file()
    with pytest.raises(ModelUnavailable, match="MIEN_OFFLINE"):
        zoo.ensure("far")


def test_a_source_with_another_hash_is_not_used(zoo_of, manifest_of, weights):
    zoo = zoo_of(manifest_of())
    weights.write_bytes(b"changed")
    with pytest.raises(ModelCorrupt, match="its manifest names"):
        zoo.pull("mine")
    with pytest.raises(ModelUnavailable):
        zoo.locate("mine")


def test_a_source_without_a_hash_is_held_to_the_first_one_seen(zoo_of, manifest_of, weights):
    zoo = zoo_of(manifest_of(source=Source(kind="file", path=str(weights))))
    first = zoo.pull("mine").read_bytes()
    weights.write_bytes(b"changed")
    with pytest.raises(ModelCorrupt, match="first pulled"):
        zoo.pull("mine", force=True)
    assert zoo.locate("mine").read_bytes() == first


def test_a_damaged_cache_entry_is_reported_and_force_mends_it(zoo_of, manifest_of):
    zoo = zoo_of(manifest_of())
    path = zoo.pull("mine")
    path.write_bytes(path.read_bytes().replace(b"model", b"m0del"))
    for attempt in (zoo.locate, zoo.ensure, zoo.pull):
        with pytest.raises(ModelCorrupt, match="mien models pull mine --force"):
            attempt("mine")
    zoo.pull("mine", force=True)
    assert zoo.locate("mine") == path


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: (p.parent / "record.json").write_text("{")])
def test_a_half_empty_entry_counts_as_damaged(zoo_of, manifest_of, damage):
    zoo = zoo_of(manifest_of())
    damage(zoo.pull("mine"))
    with pytest.raises(ModelCorrupt):
        zoo.locate("mine")


def test_a_raised_convert_revision_makes_a_new_entry(zoo_of, manifest_of):
    old = zoo_of(manifest_of()).pull("mine")
    zoo = zoo_of(manifest_of(convert_revision=2))
    with pytest.raises(ModelUnavailable):
        zoo.locate("mine")
    assert zoo.pull("mine") != old


def test_a_mirror_serves_when_the_source_cannot(zoo_of, manifest_of, weights):
    good = manifest_of().source
    assert zoo_of(manifest_of(source=GONE, mirrors=(good,))).pull("mine").read_bytes() == weights.read_bytes()


def test_when_nothing_serves_the_error_ends_with_what_else_to_do(zoo_of, manifest_of):
    zoo = zoo_of(manifest_of(source=GONE, otherwise="or use another model"))
    with pytest.raises(ModelUnavailable, match=r"or use another model$"):
        zoo.pull("mine")


def test_one_model_that_fails_does_not_keep_the_others_away(zoo_of, manifest_of):
    zoo = zoo_of(manifest_of("bad", GONE), manifest_of("good"))
    outcomes = {manifest.name: outcome for manifest, outcome in zoo.pull_all(["bad", "good"])}
    assert isinstance(outcomes["bad"], ModelError)
    assert isinstance(outcomes["good"], Path)
    with pytest.raises(ModelUnavailable):
        zoo.ensure_all(["good", "bad"])


def test_a_set_names_its_members_and_an_unknown_one_what_there_is(zoo_of, manifest_of):
    zoo = zoo_of(manifest_of("a", sets=("both",)), manifest_of("b", sets=("both", "one")))
    assert [m.name for m in zoo.members("both")] == ["a", "b"]
    assert [m.name for m in zoo.members("a")] == ["a"]
    with pytest.raises(ModelUnknown, match="both, one"):
        zoo.members("neither")


def test_a_pull_leaves_no_downloads_behind(zoo_of, manifest_of, tmp_path):
    zoo_of(manifest_of()).pull("mine")
    assert not list((tmp_path / "cache" / "downloads").glob("pull-*"))


@pytest.mark.parametrize(
    "source",
    [
        Source(kind="file", path="relative.onnx"),
        Source(kind="file"),
        Source(kind="pypi", package="a==1"),
        Source(kind="https", url="http://example.org/model.onnx"),
    ],
)
def test_a_source_that_cannot_work_is_a_mistake_in_the_manifest(zoo_of, manifest_of, source):
    with pytest.raises(ManifestInvalid):
        zoo_of(manifest_of(source=source)).pull("mine")


def test_an_unknown_recipe_is_named(zoo_of, manifest_of):
    with pytest.raises(ManifestInvalid, match="'magic'"):
        zoo_of(manifest_of(convert="magic")).pull("mine")
