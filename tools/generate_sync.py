"""Generates the blocking clients from the asyncio ones: `python tools/generate_sync.py [--check]`.

The two differ in keywords and names alone; what really differs (sockets, threads, waiting) is written by hand, twice,
in `_async_io` and `_sync_io` of each package, under the same names.

`ifr_clients`, which depends on no other package, gets its copies of modules of `infsh` here, too.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = "# Generated from {source} by tools/generate_sync.py (`make sync`): edit that file.\n"

# In this order; each is a pattern and what takes its place.
KEYWORDS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\banext\(", "next("),
    (r"\bAwaitable\[((?:[^\[\]]|\[(?:[^\[\]]|\[[^\]]*\])*\])*)\]", r"\1"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\b_async(_io|_flow)\b", r"_sync\1"),
    (r"`async with`", "`with`"),
    (r"`await (\w+\(\))`", r"`\1`"),
    (r"# ruff: noqa: ASYNC\d+[^\n]*\n", ""),
    (r"\bAwaitable, |, Awaitable\b", ""),
]


@dataclass(frozen=True)
class Client:
    """One package's client and the words in which its two versions differ."""

    source: Path
    target: Path
    words: tuple[tuple[str, str], ...]


CLIENTS = (
    Client(
        source=Path("packages/ifr-clients/src/ifr_clients/_async.py"),
        target=Path("packages/ifr-clients/src/ifr_clients/_sync.py"),
        words=(
            ("The asyncio client: performs the steps that the I/O-free core decides, on the event loop.",
             "The blocking client: performs the steps that the I/O-free core decides, in the calling thread."),
            ("IFRClientAsync", "IFRClient"),
            ("for asyncio.", "that blocks until the response has arrived."),
            ("One client serves\n    any number of asyncio tasks of one event loop; in another loop it reconnects.",
             "One client can be\n    shared by any number of threads, which share its connections."),
            ("built in a thread if it would block the event loop", "built in the calling thread"),
        ),
    ),
    Client(
        source=Path("packages/infsh/src/inferencesh/_async.py"),
        target=Path("packages/infsh/src/inferencesh/_sync.py"),
        words=(
            ("The asyncio client of the task API.", "The blocking client of the task API."),
            ("AsyncInference", "Inference"),
            ("AsyncTaskStream", "TaskStream"),
            ("AsyncConnected", "Connected"),
            ("AsyncStream", "Stream"),
            ("AsyncTasks", "Tasks"),
            ("AsyncFiles", "Files"),
            ("AsyncApps", "Apps"),
            ("AsyncSessions", "Sessions"),
            ("for asyncio: one client serves any number of asyncio tasks of one event loop.",
             "for threads: one client serves any number of them."),
            (" In another loop it reconnects.", ""),
        ),
    ),
    Client(
        source=Path("packages/infsh/src/inferencesh/_async_flow.py"),
        target=Path("packages/infsh/src/inferencesh/_sync_flow.py"),
        words=(
            ("Performs the steps of the flows on the event loop.",
             "Performs the steps of the flows in the calling thread."),
            ("AsyncConnected", "Connected"),
            ("AsyncStream", "Stream"),
        ),
    ),
    Client(
        source=Path("packages/infsh/src/lumen_client/_async.py"),
        target=Path("packages/infsh/src/lumen_client/_sync.py"),
        words=(
            ("The asyncio client of `/v1/infer`.", "The blocking client of `/v1/infer`."),
            ("AsyncLumenClient", "LumenClient"),
            ("AsyncConnected", "Connected"),
            ("AsyncResults", "Results"),
            ("AsyncStream", "Stream"),
            ("for asyncio: one client serves any number of asyncio tasks of one event loop.",
             "for threads: one client serves any number of them."),
            (" In another loop it reconnects.", ""),
        ),
    ),
)  # fmt: skip


COPIED = tuple(
    (Path("packages/infsh/src/infsh") / name, Path("packages/ifr-clients/src/ifr_clients") / name)
    for name in ("_environment.py", "_quiet.py")
)
COPY_HEADER = "# Copied from {source} by tools/generate_sync.py (`make sync`): edit that file.\n"


def files() -> dict[Path, str]:
    """Every generated file, with what it should contain."""
    made = {client.target: generated(client) for client in CLIENTS}
    copies = {target: COPY_HEADER.format(source=source) + (ROOT / source).read_text() for source, target in COPIED}
    return made | copies


def generated(client: Client) -> str:
    """The source of the client that blocks, formatted. Raises ValueError for a word that the source lacks."""
    text = (ROOT / client.source).read_text()
    for theirs, ours in client.words:
        if theirs not in text:
            raise ValueError(f"{client.source} no longer says {theirs!r}: correct tools/generate_sync.py")
        text = text.replace(theirs, ours)
    for pattern, ours in KEYWORDS:
        text = re.sub(pattern, ours, text)
    return _formatted(HEADER.format(source=client.source.name) + text, client.target)


def _formatted(text: str, target: Path) -> str:
    for command in (["check", "--fix-only", "--quiet"], ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(ROOT / target), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return text


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is not up to date")
    check = parser.parse_args().check
    stale = {target: text for target, text in files().items() if _text(ROOT / target) != text}
    for target, text in stale.items():
        if not check:
            (ROOT / target).write_text(text)
        sys.stdout.write(f"{target} {'is out of date: run `make sync`' if check else 'generated'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
