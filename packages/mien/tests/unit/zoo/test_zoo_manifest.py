"""Manifests: the built-in ones are complete, wrong ones are refused by name."""

from pathlib import Path

import pytest

from mien.errors import ManifestInvalid, ModelUnknown
from mien.zoo.convert import RECIPES
from mien.zoo.manifest import find, load_manifests, parse

MINIMAL = """
name = "mine"
task = "face_recognition"
family = "arcface"
title = "t"
licence = "MIT"
credit = "me"
[source]
kind = "file"
path = "/models/mine.onnx"
"""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('family = "arcface"', 'family = "arcfaces"'), "arcfaces"),
        (('licence = "MIT"', ""), "licence"),
        (('credit = "me"', 'credit = "me"\nfamly = "x"'), "famly"),
        (('kind = "file"', 'kind = "ftp"'), "ftp"),
        (('name = "mine"', 'name = "other"'), "other"),
        (('name = "mine"', "name = "), "mine.toml"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_file_and_what_is_wrong(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse(MINIMAL.replace(*change), origin="mine.toml")
    assert "mine.toml" in refusal.value.message
    assert complaint in refusal.value.message


def test_a_users_manifest_wins_over_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "yunet.toml").write_text(MINIMAL.replace('"mine"', '"yunet"'))
    assert load_manifests(tmp_path)["yunet"].credit == "me"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelUnknown, match="yunet"):
        find(load_manifests(), "yolo")


def test_no_model_has_the_name_of_a_set() -> None:
    manifests = load_manifests()
    assert not set(manifests) & {name for manifest in manifests.values() for name in manifest.sets}


@pytest.mark.parametrize("manifest", load_manifests().values(), ids=lambda m: m.name)
def test_a_built_in_manifest_can_be_pulled_and_is_credited(manifest) -> None:  # type: ignore[no-untyped-def]
    assert manifest.convert is None or manifest.convert in RECIPES
    assert manifest.source.kind == "https" or manifest.source.sha256
    assert all(mirror.sha256 == manifest.source.sha256 for mirror in manifest.mirrors)
    root = Path(__file__).parents[5]
    for page in ("NOTICE", "docs/models.md"):
        assert f"`{manifest.name}`" in (root / page).read_text("utf-8"), f"{page} does not name {manifest.name}"


def test_nothing_that_forbids_commercial_use_is_in_the_default_set() -> None:
    free = [m for m in load_manifests().values() if {"default", "faces"} & set(m.sets)]
    assert free
    assert not any(m.non_commercial for m in free)
