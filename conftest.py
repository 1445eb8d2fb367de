"""What the tests of all packages share: tiers by folder, limits in time, and how much Hypothesis tries."""

import gc
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["testing.tiers", "testing.limits"]

# Images of containers set it. Each process would then compile all modules of this workspace anew, and pytest rewrite
# all tests: a fifth of a server's start, and two fifths of the collection of tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Examples have no deadline: on a busy machine any of them may have to wait 200 ms for its turn.
_EXAMPLES = {"dev": 20, "ci": 30, "full": 300}
for _name, _examples in _EXAMPLES.items():
    settings.register_profile(
        _name, deadline=None, max_examples=_examples, suppress_health_check=[HealthCheck.too_slow], print_blob=True
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Five thousand tests and what they import stay to the end: without this, each later collection of garbage would
    look through all of them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
