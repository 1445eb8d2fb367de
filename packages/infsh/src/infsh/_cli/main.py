"""The commands. Errors are printed as one sentence, with the app's own traceback."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import infsh
from infsh._cli import check, create, local_server, once
from infsh._errors import InfshError
from infsh._kernel.runner import AppFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 after an error, 130 when interrupted."""
    given = _parser().parse_args(arguments)
    try:
        return _command(given)
    except AppFailed as error:
        return _complain(error.error, error.traceback)
    except InfshError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130


def _command(given: argparse.Namespace) -> int:
    match given.command:
        case "init":
            folder = create.create(given.name)
            sys.stdout.write(f"{folder} created. Next: infsh test {folder}\n")
            return 0
        case "run":
            return _run(once.run(given.path, given.input, given.file, given.setup, given.function))
        case "serve":
            # a shell starts background jobs with SIGINT ignored, but SIGINT is how this one is stopped
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return _run(local_server.serve(given.path, given.port, given.setup))
        case _:
            return _run(check.check(given.path))


def _run(work: Coroutine[Any, Any, int]) -> int:
    """As `asyncio.run`, but SIGINT always interrupts: the system may deliver it to a thread of the app, and asyncio's
    loop would go on sleeping (seen in 1 of 15 tries). Raises KeyboardInterrupt."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    async def interruptible() -> int:
        task = asyncio.current_task()
        if task is not None and not ignored:
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _complain(sentence: str, traceback: str = "") -> int:
    sys.stderr.write(traceback)
    sys.stderr.write(f"infsh: {sentence}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infsh", description="Create, run and test an app on this machine.")
    parser.add_argument("--version", action="version", version=infsh.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="create a folder with a small app")
    init.add_argument("name", help="NAME or NAMESPACE/NAME")

    run = commands.add_parser("run", help="set up an app, run it once, print its output as JSON")
    _with_app(run)
    run.add_argument("--input", action="append", default=[], metavar="KEY=VALUE", help="an input field; or @FILE.json")
    run.add_argument("--file", action="append", default=[], metavar="KEY=PATH", help="an input field that is a file")
    run.add_argument("--function", help="a function other than the default one")

    serve = commands.add_parser("serve", help="serve POST /run and GET /schema on this machine only")
    _with_app(serve)
    serve.add_argument("--port", type=int, default=8090, help="0: any free port (default: %(default)s)")

    test = commands.add_parser("test", help="check inf.yml and the schemas; run input.json if there is one")
    test.add_argument("path", nargs="?", default=Path(), type=Path)
    return parser


def _with_app(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default=Path(), type=Path, help="the app's folder (default: this one)")
    parser.add_argument("--setup", action="append", default=[], metavar="KEY=VALUE", help="a setup parameter")
