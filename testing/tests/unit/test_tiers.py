"""The folder of a test decides its tier."""

from pathlib import Path

import pytest

from testing.tiers import tier_of


@pytest.mark.parametrize(
    ("path", "tier"),
    [
        ("packages/mien/tests/unit/test_a.py", "unit"),
        ("packages/mien/tests/unit/tasks/test_a.py", "unit"),
        ("packages/mien/tests/unit/tasks/full/test_a.py", "full"),
        ("packages/mien/tests/integration/test_a.py", "test"),
        ("packages/mien/tests/replay/test_a.py", "test"),
        ("packages/mien/tests/acceptance/tasks/full/test_a.py", "full"),
        ("packages/mien/tests/soak/test_a.py", "soak"),
        ("/home/full/unit/packages/mien/tests/acceptance/test_a.py", "test"),
    ],
)
def test_tier_of_a_path(path: str, tier: str) -> None:
    assert tier_of(Path(path)) == tier
