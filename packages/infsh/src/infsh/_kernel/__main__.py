"""`python -m infsh._kernel serve | schemas PATH`: called by a server in an app's own environment."""

import argparse
import json
import os
import socket
import sys
from pathlib import Path

from infsh._errors import InfshError
from infsh._kernel import protocol, traces
from infsh._kernel.loader import load_app


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infsh._kernel", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="connect to the supervisor's socket and serve the app")
    serve.add_argument("path", nargs="?", help=f"the app's folder (else ${protocol.APP_VARIABLE})")
    schemas = commands.add_parser("schemas", help="print the app's functions and schemas as JSON")
    schemas.add_argument("path")
    given = parser.parse_args(arguments)
    return _serve(given.path) if given.command == "serve" else _schemas(Path(given.path))


def _serve(path: str | None) -> int:
    where = {
        name: os.environ.pop(name, "")
        for name in (protocol.SOCKET_VARIABLE, protocol.TOKEN_VARIABLE, protocol.SPILL_VARIABLE, protocol.APP_VARIABLE)
    }
    app = path or where[protocol.APP_VARIABLE]
    if not app or not where[protocol.SOCKET_VARIABLE]:
        return _complain(f"serve needs the app's folder and a socket's path in {protocol.SOCKET_VARIABLE}")
    if not hasattr(os, "fork"):
        return _complain("serve needs a system with fork: Linux or macOS")
    from infsh._kernel.relay import relay
    from infsh._kernel.serving import serve_app

    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        supervisor.connect(where[protocol.SOCKET_VARIABLE])
    except OSError as error:
        return _complain(f"cannot connect to the supervisor's socket: {error.strerror}")
    spill = Path(where[protocol.SPILL_VARIABLE]) if where[protocol.SPILL_VARIABLE] else None
    folder = Path(app).absolute()
    return relay(supervisor, where[protocol.TOKEN_VARIABLE], spill, lambda channel: serve_app(channel, folder))


def _schemas(path: Path) -> int:
    """Prints only JSON on stdout: what the app prints while it is imported goes to stderr."""
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        value = load_app(path).schemas()
    except InfshError as error:
        return _complain(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the app's own code may raise anything
        sys.stderr.write(traces.frames(error))
        return _complain(f"the app cannot be imported: {traces.sentence(error, path.resolve())}")
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.write("\n")
    return 0


def _complain(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
