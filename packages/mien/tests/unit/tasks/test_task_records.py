"""Records without a store: the order of statuses, and the keys by which setups and submissions are compared."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.encoded import Encoded
from mien.errors import InternalError, RequestError
from mien.tasks.records import Submission, canonical, setup_key
from mien.tasks.status import HELD, TERMINAL, WAITING, Status, check_transition, may_follow
from mien.workers.listener import Stage


def test_the_state_machine_only_goes_forward() -> None:
    for before in Status:
        for after in Status:
            if may_follow(before, after):
                assert before not in TERMINAL
                assert after > before
            else:
                with pytest.raises(InternalError):
                    check_transition(before, after)
    assert not may_follow(Status.QUEUED, Status.COMPLETED)
    assert set(Status) == WAITING | HELD | TERMINAL
    assert [int(status) for status in Status] == list(range(1, 12))


def test_every_stage_is_a_status_of_the_same_name_and_number() -> None:
    assert [(stage.name, stage.value) for stage in Stage] == [
        (status.name, status.value) for status in sorted(HELD - {Status.SCHEDULED})
    ]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_equal_setups_have_equal_keys(setup: dict[str, Any]) -> None:
    try:
        canonical(setup)
    except RequestError:
        return
    assert setup_key(setup) == setup_key(dict(reversed(setup.items())))


def test_fingerprints_tell_work_apart_and_nothing_else() -> None:
    base = Submission(app="a/b", input=Encoded.of(1))
    same = Submission(app="a/b", input=Encoded.of(1), idempotency_key="x", owner="y", dialect="z")
    assert base.fingerprint() == same.fingerprint()
    assert base.fingerprint() != Submission(app="a/b", input=Encoded.of(2)).fingerprint()
