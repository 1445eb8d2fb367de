"""`inf.yml`: values, units, and errors that name the key."""

import pytest

from infsh import ManifestInvalid
from infsh._manifest import parse_manifest, read_manifest

FULL = """\
namespace: me
name: collage
description: Faces to a collage
category: image
version: 1.0
kernel: python-3.11
resources:
  gpu: {count: 1, vram: 24, type: nvidia}
  ram: 512MiB
env: {MODE: fast, N: 3, DEBUG: yes}
variants:
  big: {name: Big, order: 1, resources: {gpu: {count: 2, vram: 80GB}}, env: {MODE: slow}, python: 3.11}
default_function: collage
service: faces-collage
concurrency: 4
grace: 2.5
images: {card: a.png}
"""


def test_everything_is_read(tmp_path):
    (tmp_path / "inf.yml").write_text(FULL)
    manifest = read_manifest(tmp_path)
    assert (manifest.namespace, manifest.name, manifest.version) == ("me", "collage", "1.0")
    assert (manifest.resources.gpu.count, manifest.resources.gpu.vram) == (1, 24 * 10**9)
    assert manifest.resources.ram == 512 << 20
    assert manifest.env == {"MODE": "fast", "N": "3", "DEBUG": "true"}
    assert manifest.variants["big"].resources.gpu.vram == 80 * 10**9
    assert manifest.variants["big"].python == "3.11"
    assert (manifest.service, manifest.concurrency, manifest.grace) == ("faces-collage", 4, 2.5)
    assert manifest.model_extra == {"images": {"card": "a.png"}}


def test_a_name_is_enough():
    manifest = parse_manifest({"name": "a", "resources": None, "env": None, "variants": None})
    assert (manifest.concurrency, manifest.service, manifest.default_function) == (None, None, "run")
    assert manifest.resources.gpu.count == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (8, 8 * 10**9),
        (16000, 16 * 10**9),
        (17179869184, 17179869184),
        ("1.5GB", 1500000000),
        ("2 TiB", 2 << 40),
        ("24", 24 * 10**9),
    ],
)
def test_amounts_of_memory(given, expected):
    assert parse_manifest({"name": "a", "resources": {"ram": given}}).resources.ram == expected


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({}, "`name` is missing"),
        ({"name": "a b"}, "`name` cannot be 'a b'"),
        ({"name": "a", "namespace": "../x"}, "`namespace`"),
        ({"name": "a", "service": "a/b"}, "`service`"),
        ({"name": "a", "concurrency": 0}, "`concurrency` cannot be 0"),
        ({"name": "a", "grace": -1}, "`grace`"),
        ({"name": "a", "resources": {"gpu": {"count": "many"}}}, "`resources.gpu.count` cannot be 'many'"),
        ({"name": "a", "resources": {"ram": "lots"}}, "`resources.ram` cannot be 'lots': give bytes"),
        ({"name": "a", "env": {"A": []}}, "`env.A`"),
        ({"name": "a", "variants": {"x": {"order": "z"}}}, "`variants.x.order`"),
    ],
)
def test_an_error_names_the_key(content, key):
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(content)
    assert str(caught.value).startswith("inf.yml: ")
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a", "keys and values"), ("", "keys and values"), ("a: [", "cannot be read"), (None, "has no inf.yml")],
)
def test_a_file_that_is_not_a_manifest(text, said, tmp_path):
    if text is not None:
        (tmp_path / "inf.yml").write_text(text)
    with pytest.raises(ManifestInvalid, match=said):
        read_manifest(tmp_path)
