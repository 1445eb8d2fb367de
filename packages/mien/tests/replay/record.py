"""Records all exchanges again, with the server of a chosen environment.

    .venv/bin/python -m packages.mien.tests.replay.record [--server-python PATH]

Run from the repository's root. When a change alters an answer on purpose, record again and review the difference of
`recorded.jsonl` (one exchange a line) as part of that change. `--output` writes elsewhere; `--against` compares with a
recording instead of writing one.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import storage
from .compare import differences
from .exchanges import NEW, OLD, on_new, on_old, without_server
from .old_data import known_of_old, with_old_data
from .player import Commands, Running, with_images

RECORDED = Path(__file__).parent / "recorded.jsonl"


def play(python: Path, folder: Path) -> list[dict[str, Any]]:
    """Every exchange with the server of that Python, in order. Both servers start
    at once, and commands that need none run beside them; each of the three is in order."""
    plan = (
        (with_images(_made(folder / "new")), NEW, on_new(), True, {}),
        (with_old_data(_made(folder / "old")), OLD, on_old(), True, known_of_old()),
        (_made(folder / "none"), {"offline": "true"}, without_server(), False, {}),
    )
    with ExitStack() as stack:
        commands = Commands(python)
        stack.callback(commands.close)
        running = []
        for place, chosen, steps, server, known in plan:
            (place / "images").mkdir(exist_ok=True)
            settings = {**chosen, "images_root": str(place / "images")}
            started = Running(python, commands, place, settings, server=server)
            stack.callback(started.close)
            running.append((started, steps, known))
        with ThreadPoolExecutor(len(running)) as threads:
            played = list(threads.map(lambda parts: parts[0].play(*parts[1:]), running))
    return [answer for answers in played for answer in answers]


def compared(recorded: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> list[str]:
    """Every difference, each with the name of its exchange."""
    old, new = ({answer["name"]: answer for answer in answers} for answers in (recorded, replayed))
    found = [f"{name}: recorded, not sent any more" for name in old if name not in new]
    for name, answer in new.items():
        if name not in old:
            found.append(f"{name}: not recorded yet")
        else:
            found += [f"{name}: {difference}" for difference in differences(old[name], answer)]
    return found


def as_written(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As they are once written and read."""
    return [json.loads(json.dumps(answer)) for answer in answers]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--output", type=Path, default=RECORDED)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mien-replay-") as folder:
        answers = as_written(play(asked.server_python.absolute(), Path(folder)))
    sys.stderr.write(f"{len(answers)} exchanges in {time.monotonic() - started:.1f} s\n")
    if asked.against is not None:
        found = compared(storage.read(asked.against), answers)
        sys.stderr.write("".join(f"{line}\n" for line in found) + f"{len(found)} differences\n")
        return int(bool(found))
    storage.write(asked.output, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
