"""Which tests run: the folder of a test decides.

`tests/unit` is the tier to run while working; `make test` runs it and all other folders, but for those named `full`
(anywhere below `tests`; `make test-full`) and `tests/soak` (`make soak`). Three kinds of tests are run in a later tier,
from where they stand: those with the marker `full`, a slow test among quick ones; those with the marker `soak`, for
longer; and in the full tier every property of Hypothesis, with more examples. A path in `full` or `soak` that is given
on the command line is run as it is asked for.
"""

from pathlib import Path

import pytest

RUNS = {"unit": {"unit"}, "test": {"unit", "test"}, "full": {"full"}, "soak": {"soak"}}
"""The tiers of files by what is chosen."""


def tier_of(path: Path) -> str:
    """The tier of a test's file."""
    folders = path.parts
    below = folders[len(folders) - folders[::-1].index("tests") :] if "tests" in folders else ()
    return next((tier for tier in ("soak", "full", "unit") if tier in below), "test")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=[*RUNS], default="test", help="which tests run (default: %(default)s)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    chosen, tier = config.getoption("tier"), tier_of(collection_path)
    may_hold_some = chosen in ("full", "soak") and tier != "soak"
    return None if tier in RUNS[chosen] or may_hold_some or _is_asked_for(collection_path, config) else True


@pytest.hookimpl(trylast=True)  # after Hypothesis has marked its tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (kept if _is_chosen(item, config) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _is_chosen(item: pytest.Item, config: pytest.Config) -> bool:
    chosen, tier = config.getoption("tier"), tier_of(item.path)
    long = item.get_closest_marker("soak") is not None
    if tier in ("unit", "test") and item.get_closest_marker("full") is not None:
        tier = "full"
    if chosen == "soak":
        return long or tier == "soak"
    if long and tier != "soak":
        return False
    property_based = chosen == "full" and item.get_closest_marker("hypothesis") is not None
    return tier in RUNS[chosen] or property_based or _is_asked_for(item.path, config)


def _is_asked_for(path: Path, config: pytest.Config) -> bool:
    for argument in config.args:
        named = Path(config.invocation_params.dir, argument.partition("::")[0])
        if tier_of(named) in ("full", "soak") and path.is_relative_to(named):
            return True
    return False
