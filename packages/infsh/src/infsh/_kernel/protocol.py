"""The messages between an app's process and its supervisor, described in docs/apps-protocol.md.

`codec` turns them into bytes, `channel` sends and receives them.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

VERSION = 2

SOCKET_VARIABLE = "INFSH_KERNEL_SOCKET"
TOKEN_VARIABLE = "INFSH_KERNEL_TOKEN"  # noqa: S105  # the variable's name
SPILL_VARIABLE = "INFSH_KERNEL_SPILL"
APP_VARIABLE = "INFSH_KERNEL_APP"


class EncodedJson(str):
    """The JSON text of a value, inserted into a message verbatim instead of being encoded again."""

    __slots__ = ()


class ProtocolError(Exception):
    """The peer sent an invalid message, or a message cannot be sent."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message; the subclasses are the protocol."""

    type: ClassVar[str]


# --- to the worker


@dataclass(frozen=True, slots=True)
class Setup(Message):
    """Set up the app. Followed by `Ready` or `Fatal`."""

    type: ClassVar[str] = "setup"
    setup: Any = None
    """The app's setup parameters: an object, a JSON string, or None for the defaults."""
    metadata: dict[str, Any] = field(default_factory=dict)
    marker: str = ""
    """In outputs, `{MARKER: {"path", "content_type", "size", "filename"}}` is a file that the app made, to be uploaded.
    A secret of this worker, so that values passed through by an app are not mistaken for one. Empty: none."""
    files: str | None = None
    """The directory of the files of this setup: the only paths that its parameters may use as files."""
    paths: list[str] = field(default_factory=list)
    """Directories below which clients may name files by path, here and in runs. They are asked for by `Fetch`."""


@dataclass(frozen=True, slots=True)
class Run(Message):
    """Call a function of the app. Ends with exactly one of `Done`, `Failed`, `Cancelled`, or with the process."""

    type: ClassVar[str] = "run"
    run_id: str
    input: Any = None
    function: str | None = None
    """None: the app's default function."""
    metadata: dict[str, Any] = field(default_factory=dict)
    files: str | None = None
    """The directory of the files of this run: the only paths that its input may use as files."""


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Cancel a run. If it has not ended after `grace` seconds, the supervisor kills the process."""

    type: ClassVar[str] = "cancel"
    run_id: str
    grace: float = 30.0


@dataclass(frozen=True, slots=True)
class Fetched(Message):
    """The response to `Fetch`: a path, or an error."""

    type: ClassVar[str] = "fetched"
    fetch_id: str
    path: str | None = None
    """The file, which the app may change: of the run, or of the setup. It is removed with it."""
    content_type: str | None = None
    error: str = ""
    """One sentence for the user, without secrets of the URL."""
    code: str = ""
    """The supervisor's error code."""


@dataclass(frozen=True, slots=True)
class Unload(Message):
    """Call `unload()` and exit with status 0."""

    type: ClassVar[str] = "unload"


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """Followed by `Pong` from any process that still runs Python code, even if the app blocks its event loop."""

    type: ClassVar[str] = "ping"


# --- from the worker


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message."""

    type: ClassVar[str] = "hello"
    version: int
    pid: int
    """The process that runs the app; its parent, the process that was started, relays its messages and output."""
    token: str


@dataclass(frozen=True, slots=True)
class Loaded(Message):
    """The app has been imported and can be set up."""

    type: ClassVar[str] = "loaded"
    functions: list[str]
    schemas: dict[str, Any]
    """What `python -m infsh._kernel schemas` prints."""
    default_function: str = "run"
    concurrency: int = 1
    """Maximum number of concurrent runs; further runs wait in the worker."""


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """`setup()` has returned."""

    type: ClassVar[str] = "ready"
    took: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Log(Message):
    """One line that the app printed (`stdout`, `stderr`) or logged (`log`)."""

    type: ClassVar[str] = "log"
    line: str
    stream: str = "stdout"
    run_id: str | None = None
    """None if it is unknown which of several runs printed it, or none was running."""


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """The progress of a run."""

    type: ClassVar[str] = "progress"
    run_id: str
    fraction: float
    """0 to 1."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Output(Message):
    """A complete partial output of a run, which replaces the previous one."""

    type: ClassVar[str] = "output"
    run_id: str
    output: Any
    final: bool = False


@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """A `File` in the input of a run is an http(s) URL, or a path as `server-file:///…`: the supervisor fetches it.
    Followed by `Fetched`."""

    type: ClassVar[str] = "fetch"
    run_id: str | None
    """None: it is in the setup's parameters."""
    fetch_id: str
    url: str


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The run has succeeded."""

    type: ClassVar[str] = "done"
    run_id: str
    output: Any


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """The run has failed; the worker can continue with others."""

    type: ClassVar[str] = "failed"
    run_id: str
    error: str
    """One sentence for the user."""
    traceback: str = ""
    """The app's frames, for its developer."""
    kind: str = "app"
    """`function` (unknown), `input` (invalid), `app` (raised), `output` (invalid), `out_of_memory` or `worker`."""
    code: str = ""
    """For an input file that the supervisor could not fetch: the code of `Fetched`."""


@dataclass(frozen=True, slots=True)
class Cancelled(Message):
    """The run has actually ended after a `Cancel`."""

    type: ClassVar[str] = "cancelled"
    run_id: str


@dataclass(frozen=True, slots=True)
class Pong(Message):
    """The response to `Ping`."""

    type: ClassVar[str] = "pong"


@dataclass(frozen=True, slots=True)
class Fatal(Message):
    """The last message: the worker is gone or about to exit, with all its runs."""

    type: ClassVar[str] = "fatal"
    error: str
    kind: str
    """`load` (import), `setup`, `unload`, `protocol`, `crashed` (the app's process died unexpectedly)."""
    traceback: str = ""
    exit_code: int | None = None
    """For a crashed process: its exit status, or minus the signal."""
    max_rss_bytes: int | None = None
    """For a crashed process: its peak memory."""


TO_WORKER: tuple[type[Message], ...] = (Setup, Run, Cancel, Fetched, Unload, Ping)
FROM_WORKER: tuple[type[Message], ...] = (
    Hello,
    Loaded,
    Ready,
    Log,
    Progress,
    Output,
    Fetch,
    Done,
    Failed,
    Cancelled,
    Pong,
    Fatal,
)
MESSAGES: dict[str, type[Message]] = {cls.type: cls for cls in TO_WORKER + FROM_WORKER}
RUN_ENDS = (Done, Failed, Cancelled)
