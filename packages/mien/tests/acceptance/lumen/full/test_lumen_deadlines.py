"""Deadlines in the middle of real work: always 504 `deadline_exceeded`, and every stream has its one final event."""

from typing import Any

import pytest

from packages.mien.tests.acceptance.lumen.deadlines import tried


@pytest.mark.parametrize("seed", range(3))
def test_a_deadline_is_never_taken_for_a_client_that_disconnected(server: Any, photos: Any, seed: int) -> None:
    before = server.metric("mien_errors_total", code="cancelled")
    found = tried(server.client, list(photos.values()), 20, seed=seed, most_ms=250)
    assert set(found) <= {"ok", "deadline_exceeded"}, found
    assert found["deadline_exceeded"] > 5
    assert server.metric("mien_errors_total", code="cancelled") == before
    assert "Traceback" not in server.log
