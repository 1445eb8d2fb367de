import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mien.apps.manifest import AppManifest
from mien.apps.record import AppVersion, Deployed, FunctionSchema
from mien.apps.reference import AppRef
from mien.apps.registry import AppRegistry
from mien.errors import AppUnknown, MienError, RequestError

HELLO = AppRef("ada", "hello")


@pytest.fixture
def registry(tmp_path: Path) -> AppRegistry:
    return AppRegistry(tmp_path / "apps")


def deploy(registry: AppRegistry, digit: str, name: str = "hello", service: str = "") -> Deployed:
    record = AppVersion(
        namespace="ada",
        name=name,
        version=digit * 64,
        created=datetime.now(UTC),
        manifest=AppManifest(service=service),
        functions={"run": FunctionSchema()},
    )
    with registry.staging() as staged:
        (staged / "content").mkdir()
        (staged / "content" / "inference.py").write_text(digit)
        return registry.publish(staged, record)


def latest(registry: AppRegistry) -> str:
    return registry.resolve(HELLO).version.version[0]


def test_the_last_deployed_version_is_the_latest(registry: AppRegistry) -> None:
    deploy(registry, "1")
    found = deploy(registry, "2")
    assert registry.resolve(HELLO) == found
    assert (found.content / "inference.py").read_text() == "2"
    assert registry.resolve(AppRef("ada", "hello", "1111")).version.version == "1" * 64
    assert [version.version.short_id for version in registry.versions(HELLO)] == ["1" * 10, "2" * 10]


def test_the_same_content_is_the_same_version(registry: AppRegistry) -> None:
    first = deploy(registry, "1")
    deploy(registry, "2")
    again = deploy(registry, "1")
    assert again.version == first.version
    assert latest(registry) == "1"
    assert len(registry.versions(HELLO)) == 2


def test_rollback_goes_back_step_by_step(registry: AppRegistry) -> None:
    for digit in "123":
        deploy(registry, digit)
    registry.rollback(HELLO)
    assert latest(registry) == "2"
    registry.rollback(HELLO)
    assert latest(registry) == "1"
    with pytest.raises(RequestError, match="no earlier version"):
        registry.rollback(HELLO)
    registry.rollback(AppRef("ada", "hello", "3333"))
    assert latest(registry) == "3"


def test_making_a_version_the_latest_updates_when_it_was_chosen(registry: AppRegistry) -> None:
    first = deploy(registry, "1")
    second = deploy(registry, "2")
    assert 0 < first.chosen < second.chosen
    assert registry.resolve(AppRef("ada", "hello", "1111")).chosen == first.chosen
    again = deploy(registry, "2")
    assert again.chosen > second.chosen
    back = registry.rollback(HELLO)
    assert back.version == first.version
    assert back.chosen > again.chosen


def test_removing_the_latest_leaves_the_one_before(registry: AppRegistry) -> None:
    for digit in "12":
        deploy(registry, digit)
    content = registry.resolve(HELLO).content
    assert registry.remove(AppRef("ada", "hello", "2222")) == 1
    assert latest(registry) == "1"
    assert not content.exists()
    with pytest.raises(AppUnknown, match="no version"):
        registry.resolve(AppRef("ada", "hello", "2222"))


def test_a_removed_app_is_unknown_and_can_come_back(registry: AppRegistry) -> None:
    deploy(registry, "1")
    deploy(registry, "2")
    assert registry.remove(HELLO) == 2
    assert registry.all() == []
    with pytest.raises(AppUnknown, match="mien apps list"):
        registry.resolve(HELLO)
    deploy(registry, "1")
    assert latest(registry) == "1"


def test_functions_are_checked(registry: AppRegistry) -> None:
    deploy(registry, "1")
    registry.resolve(AppRef("ada", "hello", None, "run"))
    with pytest.raises(AppUnknown, match="no function draw; it has run"):
        registry.resolve(AppRef("ada", "hello", None, "draw"))


def test_another_process_sees_changes_immediately(registry: AppRegistry, tmp_path: Path) -> None:
    other = AppRegistry(tmp_path / "apps")
    deploy(registry, "1")
    assert latest(other) == "1"
    deploy(registry, "2")
    assert latest(other) == "2"
    registry.remove(HELLO)
    with pytest.raises(AppUnknown):
        other.resolve(HELLO)


def test_readers_never_see_half_a_deployment(registry: AppRegistry) -> None:
    deploy(registry, "0")
    stop = threading.Event()
    trouble: list[Exception] = []

    def read() -> None:
        reader = AppRegistry(registry._root)
        while not stop.is_set():
            try:
                found = reader.resolve(HELLO)
                assert (found.content / "inference.py").read_text() == found.version.version[0]
                assert reader.versions(HELLO)
            except (AssertionError, MienError, OSError) as error:
                trouble.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    writers = [
        threading.Thread(target=lambda digits=digits: [deploy(registry, digit) for digit in digits])  # type: ignore[misc]
        for digits in ("123456", "789abc")
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert trouble == []
    assert len(registry.versions(HELLO)) == 13
