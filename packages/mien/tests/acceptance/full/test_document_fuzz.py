"""The whole OpenAPI document against a real server: every answer is documented, none is a 5xx, none is missing."""

from typing import Any

import pytest

from packages.mien.tests.conftest import ServerProcess
from packages.mien.tests.fuzzing import Tally, from_document

EXAMPLES = 5


def require_sane(tally: Tally) -> None:
    print(tally.table())  # noqa: T201
    assert tally.wrong == {}
    assert (tally.faults.total(), tally.hangs.total()) == (0, 0)


@pytest.mark.limit(300)
def test_without_keys(server: ServerProcess) -> None:
    tally = Tally()
    from_document(server.url, tally, examples=EXAMPLES, number=1, headers={})
    require_sane(tally)
    assert tally.inputs.total() > 200


@pytest.mark.limit(300)
@pytest.mark.parametrize("key", ["none", "infer", "both"])
def test_with_keys(keyed: Any, key: str) -> None:
    tally = Tally()
    headers = {} if key == "none" else {"Authorization": f"Bearer {getattr(keyed, key)}"}
    from_document(keyed.server.url, tally, examples=2, number=2, headers=headers)
    require_sane(tally)
