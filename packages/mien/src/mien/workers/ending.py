"""Why a worker ended, derived from its exit status, its last message and its last line of output."""

from collections.abc import Iterable

from infsh._kernel import protocol
from mien.apps.process import Exit, describe_status
from mien.workers.listener import AppError, GoneKind, WorkerGone

START_KINDS = ("load", "setup")


def how_it_ended(ended: Exit, fatal: protocol.Fatal | None, tail: Iterable[str], *, stop_requested: bool) -> WorkerGone:
    """The error that describes the end. `tail`: the last lines of output. `stop_requested`: by this server."""
    # A limit that was exceeded before the requested stop took effect is the actual reason.
    stopped = stop_requested and ended.reason in ("requested", "")
    reason = _reason(ended, fatal, tail, stop_requested=stop_requested)
    return WorkerGone(reason, kind=_kind(ended, fatal), stop_requested=stopped)


def start_error(fatal: protocol.Fatal | None) -> AppError | None:
    """The error that the app reported for its import or setup, if any."""
    if fatal is None or fatal.kind not in START_KINDS:
        return None
    return AppError(fatal.error, fatal.kind, fatal.traceback)


def _reason(ended: Exit, fatal: protocol.Fatal | None, tail: Iterable[str], *, stop_requested: bool) -> str:
    if ended.reason in ("memory", "processes"):
        return f"the worker {ended.describe()}"
    if fatal is not None and fatal.kind == "crashed":
        return f"the worker {describe_status(fatal.exit_code)}"
    if fatal is not None:
        return fatal.error
    if stop_requested:
        return "the worker was stopped"
    if ended.reason:
        return "the worker closed its connection"
    last = next((line for line in reversed(list(tail)) if line.strip()), "")
    return f"the worker {ended.describe()}" + (f"; its last line: {last}" if last and not ended.ok else "")


def _kind(ended: Exit, fatal: protocol.Fatal | None) -> GoneKind:
    if ended.reason == "memory" or ended.reason == "processes":
        return ended.reason
    if (fatal is not None and fatal.kind != "crashed") or (fatal is None and ended.reason):
        return "protocol"
    status = ended.status if fatal is None else fatal.exit_code
    return "signal" if status is not None and status < 0 else "exited"
