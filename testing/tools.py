"""Programs and services of the machine that a test needs: it is skipped by name without one, and fails in CI."""

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test for want of `what`; in CI, which installs everything, fail."""
    __tracebackhide__ = True
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing: .ci/run has to install it")
    pytest.skip(f"{what} is not on this machine")


def program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or missing(" or ".join(names))
