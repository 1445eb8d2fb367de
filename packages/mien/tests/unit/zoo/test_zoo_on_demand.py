"""Models that are not here: acquired once, in the background, when first wanted; their absence is said in words."""

import asyncio
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest

from mien.errors import ModelCorrupt, ModelUnavailable, ModelUnknown
from mien.zoo import on_demand
from mien.zoo.manifest import Source
from mien.zoo.on_demand import OnDemand

PACKAGE = Source(kind="pypi", package="x==1", path="x")


def contents(paths: Mapping[str, Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths.values()]


async def test_what_is_here_is_loaded_at_once(zoo_of, manifest_of, weights) -> None:
    zoo = zoo_of(manifest_of())
    zoo.pull("mine")
    group = OnDemand("it", ["mine"], zoo, contents)
    assert group.is_here
    assert group.get() == [weights.read_bytes()]
    await group.settle()


def test_nothing_wanted_is_here(zoo_of) -> None:
    assert OnDemand("it", [], zoo_of(), contents).get() == []


async def test_what_is_missing_is_acquired_when_first_wanted(zoo_of, manifest_of, weights) -> None:
    zoo = zoo_of(manifest_of())
    group = OnDemand("it", ["mine"], zoo, contents)
    assert not group.is_here
    assert zoo.record("mine") is None
    await group.settle()
    assert group.get() == [weights.read_bytes()]


def test_a_program_may_wait_for_what_is_missing_without_an_event_loop(zoo_of, manifest_of, weights) -> None:
    group = OnDemand("it", ["mine"], zoo_of(manifest_of()), contents)
    assert group.wait() == [weights.read_bytes()]
    assert group.wait() == [weights.read_bytes()]
    lacking = OnDemand("it", ["mine"], zoo_of(manifest_of(source=PACKAGE), offline=True), contents)
    with pytest.raises(ModelUnavailable, match="MIEN_OFFLINE"):
        lacking.wait()


async def test_many_at_once_begin_one_attempt_and_are_told_to_come_back(zoo_of, manifest_of, monkeypatch) -> None:
    monkeypatch.setattr(on_demand, "MAX_WAIT", 0.05)
    go, built = threading.Event(), []

    def slow(paths: Mapping[str, Path]) -> str:
        built.append(paths)
        go.wait(10)
        return "built"

    group = OnDemand("extract_ga", ["mine", "other"], zoo_of(manifest_of(), manifest_of("other")), slow)
    await asyncio.gather(*(group.settle() for _ in range(20)))
    with pytest.raises(ModelUnavailable, match=r"extract_ga needs the models mine and other.*try again") as caught:
        group.get()
    assert caught.value.retry_after == on_demand.RETRY_AFTER
    go.set()
    monkeypatch.setattr(on_demand, "MAX_WAIT", 10)
    await group.settle()
    assert group.get() == "built"
    assert len(built) == 1


async def test_why_it_cannot_be_had_is_said_and_not_tried_again_at_once(zoo_of, manifest_of, monkeypatch) -> None:
    zoo = zoo_of(manifest_of(source=PACKAGE), offline=True)
    group = OnDemand("detect_masks", ["mine"], zoo, contents)
    await group.settle()
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=r"detect_masks needs the model mine.*MIEN_OFFLINE") as caught:
            group.get()
        assert caught.value.retry_after is None
        monkeypatch.setattr(zoo, "ensure_all", lambda names: pytest.fail("tried again at once"))


async def test_what_somebody_else_pulled_is_loaded_without_a_restart(zoo_of, manifest_of, weights) -> None:
    content = weights.read_bytes()
    weights.unlink()
    group = OnDemand("it", ["mine"], zoo_of(manifest_of()), contents)
    await group.settle()
    with pytest.raises(ModelUnavailable, match="does not have"):
        group.get()
    weights.write_bytes(content)
    zoo_of(manifest_of()).pull("mine")
    await group.settle()
    assert group.get() == [content]


async def test_a_fault_in_loading_is_an_error_in_words_and_ends_the_attempt(zoo_of, manifest_of) -> None:
    def broken(paths: Mapping[str, Path]) -> str:
        raise RuntimeError("a secret path")

    group = OnDemand("it", ["mine"], zoo_of(manifest_of()), broken)
    await group.settle()
    with pytest.raises(ModelUnavailable, match="the server's log has the details"):
        group.get()


def test_mistakes_of_the_settings_are_said_at_once(zoo_of, manifest_of) -> None:
    zoo = zoo_of(manifest_of())
    with pytest.raises(ModelUnknown):
        OnDemand("it", ["nothing"], zoo, contents)
    zoo.pull("mine").write_bytes(b"other")
    with pytest.raises(ModelCorrupt):
        OnDemand("it", ["mine"], zoo, contents)


# --- loading and unloading


async def test_what_was_unloaded_is_refused_in_words_until_it_is_loaded_again(zoo_of, manifest_of, weights) -> None:
    zoo = zoo_of(manifest_of())
    zoo.pull("mine")
    group = OnDemand("detect_masks", ["mine"], zoo, contents)
    assert group.unload()
    assert not group.unload()
    await group.settle()
    with pytest.raises(ModelUnavailable, match="mine, which was unloaded; `mien models load mine` loads it again"):
        group.get()
    with pytest.raises(ModelUnavailable, match="unloaded"), group.hold():
        pass
    assert group.load()
    assert not group.load()
    assert group.get() == [weights.read_bytes()]


def test_who_holds_it_finishes_with_it_and_then_nothing_keeps_it(zoo_of, manifest_of) -> None:
    class Built:
        pass

    zoo = zoo_of(manifest_of())
    zoo.pull("mine")
    group = OnDemand("it", ["mine"], zoo, lambda paths: Built())
    alive = weakref.ref(group.get())
    with group.hold():
        with group.hold():
            group.unload()
            assert group.get() is alive()
        assert group.get() is alive()
    assert alive() is None


def test_loading_while_it_is_still_held_replaces_it_for_those_who_come(zoo_of, manifest_of) -> None:
    zoo = zoo_of(manifest_of())
    zoo.pull("mine")
    group = OnDemand("it", ["mine"], zoo, contents)
    with group.hold():
        group.unload()
        assert group.load()
    assert group.get() == contents({"mine": zoo.locate("mine")})


def test_a_load_that_fails_changes_nothing(zoo_of, manifest_of, weights) -> None:
    zoo = zoo_of(manifest_of())
    group = OnDemand("it", ["mine"], zoo, contents)
    with pytest.raises(ModelUnavailable, match="mien models pull mine"):
        group.load()
    assert not group.is_here
    assert not group.is_unloaded


async def test_an_attempt_that_began_before_it_was_unloaded_does_not_bring_it_back(zoo_of, manifest_of) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(paths: Mapping[str, Path]) -> str:
        began.set()
        go.wait(10)
        return "built"

    group = OnDemand("it", ["mine"], zoo_of(manifest_of()), slow)
    settling = asyncio.create_task(group.settle())
    await asyncio.to_thread(began.wait, 10)
    group.unload()
    go.set()
    await settling
    with pytest.raises(ModelUnavailable, match="unloaded"):
        group.get()
