"""What an attacker tries, row by row, on servers with an honest client beside; a table of what held and at what price.

Rows can be run alone: `-k "[3]"`. Figures of time depend on what else the machine does. They are always told; a
row fails for what is wrong and for memory out of proportion, and on a quiet machine for times far beyond the promised.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from packages.mien.tests.attack import access, answers, starts, volume
from packages.mien.tests.attack.stage import HEAD, Stage, Trial

pytestmark = [pytest.mark.soak, pytest.mark.limit(3600)]
ROWS = dict(sorted((access.ROWS | volume.ROWS | answers.ROWS | starts.ROWS).items()))
TITLES = (
    "web pages of other origins", "files of the server", "hostile bodies", "costly images", "endless headers",
    "idle connections", "poison in tasks", "patterns of apps", "bodies of tasks", "deadlines", "proxy variables",
    "tasks of the far future", "items, nesting, archives", "modes of files", "damaged state", "nodes of others",
    "HEAD, encodings, a BOM", "the OpenAPI document", "keep-alive, prefixes, IPv6", "mistaken settings",
    "odd environments", "200 at once through a gateway",
)  # fmt: skip
LAG_MS, RATIO = 3 * 50.0, 3 * 3.0
"""Three times what is promised: how far the event loop may lag, and how much an honest client's p99 may grow."""
QUIET = os.getloadavg()[0] < (os.cpu_count() or 1)
"""Whether times mean anything: if others work here too, they are told but not asserted."""
WORKS_MEANWHILE = {4, 10, 22}
"""Rows whose load is real inference, of which an honest client only gets its share."""


@dataclass
class Record:
    trials: dict[int, Trial] = field(default_factory=dict)
    load: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])

    def table(self) -> str:
        self.load.append(os.getloadavg()[0])
        lines = [trial.line(number) for number, trial in sorted(self.trials.items())]
        broken = [f"{number:>3} {what}" for number, trial in sorted(self.trials.items()) for what in trial.broken[:5]]
        load = f"load {self.load[0]:.1f} at the start, {self.load[-1]:.1f} at the end, {os.cpu_count()} cores"
        return "\n".join([load, HEAD, *lines, *broken])


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    kept = Record()
    yield kept
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{kept.table()}")  # noqa: T201


@pytest.fixture(scope="module")
def stage(
    serve_module: Callable[..., Any], photo: bytes, light: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("attack")
    made = Stage(serve_module, photo, light, folder)
    yield made
    made.close()


@pytest.mark.parametrize("number", ROWS)
def test_the_row_holds(stage: Stage, record: Record, number: int) -> None:
    trial = record.trials[number] = Trial(TITLES[number - 1])
    try:
        ROWS[number](stage, trial)
    except Exception as error:
        trial.broken.append(f"the attack itself failed: {error!r}"[:300])
        raise
    assert trial.tried > 0
    assert trial.broken == []
    if QUIET and trial.alone and number not in WORKS_MEANWHILE:
        assert not trial.loop_ms > LAG_MS, f"the loop stood still for {trial.loop_ms:.0f} ms"
        assert not trial.ratio > RATIO, f"the honest client's p99 is {trial.ratio:.1f} times what it is alone"
