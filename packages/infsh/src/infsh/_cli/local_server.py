"""`infsh serve`: one app behind a small HTTP server on this machine, for trying it from other programs.

Other machines cannot reach it, and neither can web pages: they cannot send it JSON, nor use another host name.
"""

import asyncio
import concurrent.futures
import itertools
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infsh._cli.terminal import TerminalSink, fields, load, plain
from infsh._errors import AppInvalid, InfshError
from infsh._kernel.runner import AppFailed, AppRunner, RunCancelled

_MAX_BODY_BYTES = 64 << 20
_LOOPBACK = {"127.0.0.1", "localhost"}
_STATUS = {"function": 404, "input": 422}


async def serve(path: Path, port: int, setup: list[str]) -> int:
    """Serves until interrupted. Raises InfshError and AppFailed."""
    loaded = load(path)
    schemas = loaded.schemas()
    runner = AppRunner(loaded, TerminalSink())
    await runner.setup(fields(setup, "setup", schemas["setup_schema"] or {}), {})
    server = _listen(port, runner, schemas, asyncio.get_running_loop())
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    name = f"http://127.0.0.1:{server.server_address[1]}"
    sys.stdout.write(f"{loaded.manifest.name} serves POST {name}/run and GET {name}/schema\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        server.shutdown()
        server.server_close()
        await runner.unload()
    return 0


def _listen(
    port: int, runner: AppRunner, schemas: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> ThreadingHTTPServer:
    numbers = itertools.count(1)

    def run(body: dict[str, Any]) -> Any:
        coroutine = runner.run(f"run-{next(numbers)}", body.get("input"), lambda _: None, function=body.get("function"))
        return plain(asyncio.run_coroutine_threadsafe(coroutine, loop).result(), runner.marker)

    class Handler(_Handler):
        pass

    Handler.run_app = staticmethod(run)
    Handler.schemas = schemas
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise InfshError(f"cannot use port {port}: {error}: choose another with --port") from error


class _Handler(BaseHTTPRequestHandler):
    schemas: dict[str, Any]
    run_app: Any
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if not self._local():
            return
        if self.path == "/schema":
            self._respond(200, self.schemas)
        else:
            self._error(404, f"{self.path} does not exist: try /schema")

    def do_POST(self) -> None:
        if not self._local():
            return
        if self.path != "/run":
            self._error(404, f"{self.path} does not exist: try /run")
            return
        try:
            output = self.run_app(self._body())
        except AppInvalid as error:
            self._error(400, str(error))
        except AppFailed as error:
            self._respond(_STATUS.get(error.kind, 500), {"error": error.error, "traceback": error.traceback})
        except (RunCancelled, concurrent.futures.CancelledError):
            self._error(503, "the server is stopping")
        else:
            self._respond(200, {"output": output})

    def _local(self) -> bool:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host in _LOOPBACK:
            return True
        self._error(403, "this server accepts requests from this machine only")
        return False

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            self.close_connection = True
            raise AppInvalid("send JSON with the header Content-Type: application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            raise AppInvalid(f"send a body with a Content-Length of at most {_MAX_BODY_BYTES} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise AppInvalid(f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise AppInvalid('the body must be an object such as {"input": {…}, "function": "run"}')
        return body

    def _error(self, status: int, sentence: str) -> None:
        self.close_connection = True
        self._respond(status, {"error": sentence})

    def _respond(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        sys.stderr.write(f"{format % args}\n")
