"""A tiny CLIP and a tiny SigLIP give what their reference implementation gives, and are one space for both kinds."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import InvalidField, ModelError, ModelUnavailable, NotFound
from mien.inference.contract import InferRequest, InferResult, Item
from mien.inference.tokens import ClipTokens
from mien.settings import Settings
from mien.vision.clip import clip_tensor
from mien.vision.image import decode
from mien.zoo.manifest import Manifest, load_manifests
from mien.zoo.zoo import Zoo
from testing import tiny_clip
from testing.loaded import Loaded, load
from testing.tiny_clip import CLIP, SIGLIP, TinyClip
from testing.tools import missing

BOTH = pytest.mark.parametrize("clip", [CLIP, SIGLIP], ids=lambda clip: clip.name)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, light: dict[str, str]) -> dict[str, Any]:
    return {**light, **tiny_clip.install(tmp_path_factory.mktemp("clip"))}


@pytest.fixture(scope="module")
def runtimes(installed: dict[str, Any]) -> Iterator[dict[str, Loaded]]:
    found = {clip.name: load(Settings(**installed, clip_model=clip.name)) for clip in (CLIP, SIGLIP)}
    yield found
    for runtime in found.values():
        asyncio.run(runtime.inference.close())


def manifest(installed: dict[str, Any], name: str) -> Manifest:
    return load_manifests(installed["manifests_dir"])[name]


async def messages(runtime: Loaded, service: str, *items: Item, task: str = "", **metadata: str) -> list[InferResult]:
    request = InferRequest(items, task, metadata)
    found = runtime.registry.resolve(service).infer(request, CancelScope(60), stream=False)
    return [await message.encoded() async for message in found]


async def ask(runtime: Loaded, service: str, *items: Item, **options: str) -> Any:
    return json.loads((await messages(runtime, service, *items, **options))[-1].data)


def text(words: str) -> Item:
    return Item(words.encode(), "text/plain")


def images() -> list[Item]:
    return [Item(data, "image/png") for data in tiny_clip.images()]


# --- as the reference


@BOTH
def test_tokens_are_exactly_those_of_the_reference(clip: TinyClip, installed: dict[str, Any]) -> None:
    spec = manifest(installed, f"{clip.name}_text").text
    assert spec is not None
    tokens = ClipTokens(clip.folder / "tokenizer.json", spec)
    for words, expected, count in zip(clip.said["texts"], clip.expected["ids"], clip.expected["counts"], strict=True):
        packed, found, truncated = tokens.encode(words)
        width = packed.shape[1]
        assert packed[0].tolist() == expected[:width].tolist(), words
        assert set(expected[width:]) <= {expected[-1]}
        assert found == count
        assert truncated == (count == spec.tokens)


@BOTH
def test_pixels_are_those_of_the_reference(clip: TinyClip, installed: dict[str, Any]) -> None:
    spec = manifest(installed, f"{clip.name}_image").input
    assert spec is not None
    for data, expected in zip(tiny_clip.images(), clip.expected["pixels"], strict=True):
        found = clip_tensor(decode(data, max_pixels=10**6, max_bytes=10**7), spec)
        assert np.abs(found - expected).max() < 1e-5


@BOTH
async def test_vectors_are_those_of_the_reference(clip: TinyClip, runtimes: dict[str, Loaded]) -> None:
    seen = await ask(runtimes[clip.name], "embedding", *images())
    read = await ask(runtimes[clip.name], "embedding", *map(text, clip.said["texts"]))
    assert {part["model_id"] for part in [*seen, *read]} == {clip.name}
    for found, expected in ((seen, clip.expected["images"]), (read, clip.expected["texts"])):
        vectors = np.array([part["vector"] for part in found])
        assert np.abs(vectors - expected).max() < TOLERANCE
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)


@BOTH
async def test_scores_of_labels_are_those_of_the_reference(clip: TinyClip, runtimes: dict[str, Loaded]) -> None:
    labels = clip.said["labels"]
    answer = await ask(runtimes[clip.name], "classification", *images(), labels=json.dumps(labels))
    for part, expected in zip(answer, clip.expected["scores"], strict=True):
        found = {label["label"]: label["score"] for label in part["labels"]}
        assert [found[label] for label in labels] == pytest.approx(expected.tolist(), abs=TOLERANCE)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert part["model_id"] == clip.name


# --- what names and metadata mean


async def test_the_originals_names_mean_the_clip_and_say_so(runtimes: dict[str, Loaded]) -> None:
    runtime = runtimes[CLIP.name]
    for task in ("", "embed", "lumen_clip_embed", "clip_embed", "semantic_text_embed", "clip_text_embed"):
        (message,) = await messages(runtime, "embedding", text("a cat"), task=task)
        assert message.meta["lumen.model.id"] == CLIP.name
        assert json.loads(message.data)["dim"] == 24
        assert message.meta["tokens"] == "4"
    for service, task in (("clip", ""), ("siglip", "semantic_image_embed"), ("lumen_clip", "clip_image_embed")):
        found, info = runtime.registry.pick(service, task)
        assert (found.name, info.model) == ("embedding", CLIP.name)


async def test_labels_are_a_list_or_names_between_commas_and_go_into_the_template(runtimes: dict[str, Loaded]) -> None:
    runtime, image = runtimes[CLIP.name], images()[0]
    as_list = await ask(runtime, "classification", image, labels='["cat", "boat on a lake"]')
    assert await ask(runtime, "classification", image, labels="cat,boat on a lake , cat") == as_list
    assert sum(label["score"] for label in as_list["labels"]) == pytest.approx(1, abs=1e-6)
    other = await ask(runtime, "classification", image, labels="cat,boat on a lake", template="{} in the snow")
    assert other != as_list
    best = await ask(runtime, "classification", image, labels="cat,boat on a lake", top_k="1")
    assert best["labels"] == as_list["labels"][:1]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "metadata labels: expected"),
        ({"labels": "cat,,dog"}, "one of them is blank"),
        ({"labels": '["cat", 3]'}, "JSON list of strings"),
        ({"labels": ",".join(map(str, range(257)))}, "at most 256 labels; got 257"),
        ({"labels": f"cat,{'x' * 501}"}, "at most 500 characters; one has 501"),
        ({"labels": "cat", "template": "a photo"}, "template: expected a text with {} once"),
        ({"labels": "cat", "template": "{} and {}"}, "template: expected a text with {} once"),
        ({"labels": "cat", "template": "{}" + "x" * 499}, "template: expected at most 500 characters; got 501"),
        ({"labels": "cat", "top_k": "0"}, "top_k"),
    ],
)
async def test_what_cannot_be_compared_is_refused(
    metadata: dict[str, str], words: str, runtimes: dict[str, Loaded]
) -> None:
    with pytest.raises(InvalidField, match=words):
        await ask(runtimes[CLIP.name], "classification", images()[0], **metadata)


async def test_blank_texts_are_refused_and_long_ones_truncated(runtimes: dict[str, Loaded]) -> None:
    for clip, most in ((CLIP, 77), (SIGLIP, 64)):
        with pytest.raises(InvalidField, match="empty or blank"):
            await ask(runtimes[clip.name], "embedding", text(" \n"))
        (long,) = await messages(runtimes[clip.name], "embedding", text("mountains " * 100))
        assert (long.meta["tokens"], long.meta["truncated"]) == (str(most), "true")


def test_a_setting_that_names_no_clip_is_told_which_there_are(installed: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no CLIP is called 'clip'; there are: clip_vit_b32, siglip_b16, tiny_clip"):
        load(Settings(**installed, clip_model="clip"))


# --- loading and unloading


async def test_a_clip_is_loaded_replaced_and_unloaded(installed: dict[str, Any]) -> None:
    runtime = load(Settings(**installed))
    manager = runtime.inference.manager
    assert "embedding" not in {service.name for service in runtime.registry.services()}
    for name, expected in (("set_of_tiny_clip", CLIP), ("tiny_siglip_text", SIGLIP), ("tiny_clip", CLIP)):
        change = await manager.load(name)
        assert (change.model.name, change.model.state, change.changed) == (expected.name, "loaded", True)
        assert not (await manager.load(expected.name)).changed
        assert (await ask(runtime, "embedding", text("a cat")))["model_id"] == expected.name
        assert len(runtime.inference.models.names()) == 5  # the face models and one pair
    assert (await manager.unload("tiny_clip")).model.state == "unloaded"
    assert not (await manager.unload("tiny_clip")).changed
    assert {service.name for service in runtime.registry.services()} == {"face_detection", "face_recognition"}
    assert len(runtime.inference.models.names()) == 3
    await manager.load("tiny_clip")
    assert (await ask(runtime, "embedding", text("a cat")))["model_id"] == "tiny_clip"
    await runtime.inference.close()


async def test_a_load_that_fails_says_why_and_leaves_what_was(installed: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for path in installed["manifests_dir"].iterdir():
        (folder / path.name).write_text(path.read_text())
    wrong = (folder / "tiny_siglip_image.toml").read_text().replace("pooler_output", "image_embeds")
    (folder / "tiny_siglip_image.toml").write_text(wrong)
    mixed = (folder / "tiny_clip_image.toml").read_text()
    (folder / "mixed_image.toml").write_text(mixed.replace("tiny_clip_image", "mixed_image"))
    for half in ("text", "tokenizer"):
        other = (installed["manifests_dir"] / f"tiny_siglip_{half}.toml").read_text()
        (folder / f"mixed_{half}.toml").write_text(other.replace(f"tiny_siglip_{half}", f"mixed_{half}"))
    runtime = load(Settings(**{**installed, "manifests_dir": folder}, clip_model="tiny_clip"))
    runtime.inference.manager._zoo.pull("mixed_image")
    runtime.inference.manager._zoo.pull("mixed_text")
    for name, words in (
        ("tiny_siglip", "has no output image_embeds; it has last_hidden_state, pooler_output"),
        ("mixed", "mien models pull mixed_tokenizer"),
        ("clip", "clip_vit_b32_tokenizer are not on this machine: run `mien models pull clip_vit_b32_image"),
        ("nothing", "no model or set is called 'nothing'"),
    ):
        with pytest.raises(ModelError, match=words):
            await runtime.inference.manager.load(name)
    runtime.inference.manager._zoo.pull("mixed_tokenizer")
    with pytest.raises(ModelError, match=r"images become \(24,\) numbers and texts \(32,\)"):
        await runtime.inference.manager.load("mixed")
    assert (await ask(runtime, "embedding", text("a cat")))["model_id"] == "tiny_clip"
    assert len(runtime.inference.models.names()) == 5
    await runtime.inference.close()


async def test_requests_that_run_finish_with_the_model_they_began_with(installed: dict[str, Any]) -> None:
    runtime = load(Settings(**installed, clip_model="tiny_clip"))
    manager = runtime.inference.manager
    running = [
        asyncio.create_task(ask(runtime, "embedding", *[text(f"a photo of {n} cats") for n in range(30)]))
        for _ in range(10)
    ]
    for _ in range(20):  # they are admitted in few steps of the loop; a load needs a thread
        await asyncio.sleep(0)
    await asyncio.gather(manager.load("tiny_siglip"), manager.unload("tiny_clip"), return_exceptions=True)
    for answer in await asyncio.gather(*running):
        assert {part.get("model_id") for part in answer} == {"tiny_clip"}
    assert (await ask(runtime, "embedding", text("a cat")))["model_id"] == "tiny_siglip"
    await runtime.inference.close()


async def test_loads_and_unloads_at_once_end_as_if_one_after_the_other(installed: dict[str, Any]) -> None:
    runtime = load(Settings(**installed))
    manager = runtime.inference.manager
    changes = [manager.load(name) for name in ("tiny_clip", "tiny_siglip") * 3]
    found = await asyncio.gather(*changes, manager.unload("tiny_siglip"), manager.load("tiny_clip"))
    assert [change.changed for change in found[:6]] == [True] * 6
    assert (await ask(runtime, "embedding", text("a cat")))["model_id"] == "tiny_clip"
    assert len(runtime.inference.models.names()) == 5
    given_up = asyncio.create_task(manager.load("tiny_siglip"))
    await asyncio.sleep(0)
    given_up.cancel()  # a client that disconnects: the load goes on, and the next change waits for it
    assert (await manager.unload("tiny_siglip")).changed
    assert [state.state for state in manager.states() if state.purpose == "clip"] == ["unloaded"]
    await runtime.inference.close()


async def test_beside_a_clip_the_other_models_keep_their_own_names(
    installed: dict[str, Any], photo: bytes, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(installed["cache_dir"] / "models", models)
    for name in ("efficientnet_lite0", "imagenet_labels", "minilm", "minilm_tokenizer"):
        if Zoo.from_settings(Settings()).find(name) is None:
            missing(f"the model {name}")
        (models / name).symlink_to(Settings().locations.models_dir / name)
    both = {"cache_dir": tmp_path, "image_model": "efficientnet_lite0", "text_model": "minilm"}
    runtime = load(Settings(**{**installed, **both}))
    assert runtime.registry.pick("", "image_embed")[1].name == "semantic_image_embed"
    await runtime.inference.manager.load("tiny_clip")
    image = Item(photo, "image/jpeg")
    for item, task, model in (
        (image, "image_embed", "efficientnet_lite0"),
        (text("a cat"), "text_embed", "minilm"),
        (image, "lumen_clip_embed", "tiny_clip"),
        (text("a cat"), "", "tiny_clip"),
    ):
        assert (await ask(runtime, "embedding", item, task=task))["model_id"] == model
    for metadata, model in (({}, "efficientnet_lite0"), ({"labels": "man,woman"}, "tiny_clip")):
        assert (await ask(runtime, "classification", image, task="clip_classify", **metadata))["model_id"] == model
    await runtime.inference.manager.unload("tiny_clip")
    with pytest.raises(ModelUnavailable, match="mien models load clip"):
        await ask(runtime, "classification", image, labels="man,woman")
    with pytest.raises(NotFound, match="zero_shot_classify"):
        await ask(runtime, "classification", image, task="zero_shot_classify")
    for name in ("efficientnet_lite0", "minilm"):
        await runtime.inference.manager.unload(name)
    assert {service.name for service in runtime.registry.services()} == {"face_detection", "face_recognition"}
    await runtime.inference.close()
