"""A server without its optional models serves faces; requests that need the others get an error with the remedy."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import ModelError, ModelUnavailable
from mien.faces.pipeline import FaceOptions
from mien.faces.self_check import SelfCheck
from mien.faces.service import ImageDone
from mien.inference.contract import InferRequest, Item
from mien.settings import Settings
from mien.zoo.zoo import Zoo
from testing.loaded import Loaded, load
from testing.tools import missing


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def bare(cache: Path) -> Iterator[Loaded]:
    runtime = load(Settings(cache_dir=cache, offline=True))
    yield runtime
    asyncio.run(runtime.inference.close())


async def analysed(runtime: Loaded, photo: bytes, **options: bool) -> ImageDone:
    (result,) = await runtime.inference.faces.analyse(
        [Item(photo)], FaceOptions(threshold=0.6, **options), CancelScope(60)
    )
    assert isinstance(result, ImageDone)
    return result


async def infer(runtime: Loaded, service: str, *items: Item) -> list[bytes]:
    request = InferRequest(items, "", {})
    messages = runtime.registry.resolve(service).infer(request, CancelScope(60), stream=False)
    return [(await message.encoded()).data async for message in messages]


async def test_faces_are_found_and_embedded_with_an_empty_cache(bare: Loaded, photo: bytes) -> None:
    (face,) = (await analysed(bare, photo)).analysis.faces
    assert face.vector is not None
    assert face.vector.shape == (512,)
    await SelfCheck(bare.inference.faces, threshold=0.6).run()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("attributes", "extract_ga needs the models age and gender"),
        ("masks", "detect_masks needs the model mask"),
        ("pose", "return_pose needs the model fr_pose"),
        ("landmarks_68", "return_landmarks_68 needs the model fr_landmark"),
    ],
)
async def test_an_attribute_without_its_model_is_rejected_with_the_reason(
    bare: Loaded, photo: bytes, option: str, words: str
) -> None:
    with pytest.raises(ModelUnavailable, match=f"{words}.*MIEN_OFFLINE"):
        await analysed(bare, photo, **{option: True})
    assert (await analysed(bare, photo)).analysis.faces


async def test_services_without_their_model_are_listed_and_say_so(bare: Loaded, photo: bytes) -> None:
    names = {service.name for service in bare.registry.services()}
    assert {"classification", "embedding", "face_detection", "face_recognition"} <= names
    image, text = Item(photo, "image/jpeg"), Item(b"hello", "text/plain")
    for service, item, model in (
        ("classification", image, "efficientnet_lite0"),
        ("embedding", image, "efficientnet_lite0"),
        ("embedding", text, "minilm"),
    ):
        with pytest.raises(ModelUnavailable, match=rf"needs the models {model} and .*MIEN_OFFLINE"):
            await infer(bare, service, item)
    (answer,) = await infer(bare, "embedding", text, image)
    assert answer.count(b'"code":"model_unavailable"') == 2


async def test_a_model_that_arrives_is_used_without_a_restart(bare: Loaded, cache: Path, photo: bytes) -> None:
    with pytest.raises(ModelUnavailable):
        await analysed(bare, photo, masks=True)
    try:
        Zoo.from_settings(Settings()).locate("mask")
    except ModelError as error:
        pytest.skip(error.message)
    shutil.copytree(Settings().locations.models_dir / "mask", cache / "models" / "mask", dirs_exist_ok=True)
    (face,) = (await analysed(bare, photo, masks=True)).analysis.faces
    assert face.attributes.mask is False


async def test_attributes_that_were_unloaded_are_refused_until_they_are_loaded_again(photo: bytes) -> None:
    zoo = Zoo.from_settings(Settings())
    if any(zoo.find(name) is None for name in ("age", "gender")):
        missing("a model (age, gender)")
    runtime = load(Settings(mask_model="none", image_model="none", text_model="none"))
    manager = runtime.inference.manager
    (face,) = (await analysed(runtime, photo, attributes=True)).analysis.faces
    assert face.attributes.age is not None
    assert (await manager.unload("gender")).model.manifests == ("age", "gender")
    with pytest.raises(ModelUnavailable, match=r"extract_ga needs .* were unloaded; `mien models load age`"):
        await analysed(runtime, photo, attributes=True)
    assert (await analysed(runtime, photo)).analysis.faces
    await manager.load("age")
    (again,) = (await analysed(runtime, photo, attributes=True)).analysis.faces
    assert again.attributes == face.attributes
    await runtime.inference.close()
