"""Identifiers."""

import re
import time

from mien.ids import random_id, ulid


def test_ulids_sort_by_age_and_do_not_repeat() -> None:
    ids = [ulid(now) for now in (1.0, 2.0, time.time())]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {26}
    assert len({ulid(1.0) for _ in range(1000)}) == 1000


def test_random_ids_do_not_repeat_and_use_every_character() -> None:
    ids = {random_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", one) for one in ids)
    assert len(set("".join(one[0] for one in ids))) == 32
