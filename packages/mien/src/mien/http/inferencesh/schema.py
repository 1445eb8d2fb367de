"""The JSON of this API as types: what `rendering` makes, and what the OpenAPI document says of it."""

from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from msgspec import Meta

Time: TypeAlias = Annotated[str, Meta(description="RFC 3339, UTC.", extra_json_schema={"format": "date-time"})]
StatusNumber: TypeAlias = Annotated[
    int, Meta(description="1..11 or, for clients that count CANCELLING, 1..12; `status_name` is the same for all.")
]
StatusName: TypeAlias = Annotated[str, Meta(description="Such as `queued`, `running`, `completed`.")]


class TaskEvent(TypedDict):
    """One change of a task's status."""

    id: str
    task_id: str
    created_at: Time
    event_time: Time
    status: StatusNumber
    status_name: StatusName
    attempt: int
    reason: str | None


class TaskLogLine(TypedDict):
    """One line of a task's log."""

    id: Annotated[int, Meta(description="Number of the line.")]
    task_id: str
    created_at: Time
    updated_at: Time
    log_type: Annotated[int, Meta(description="0 build, 1 run, 2 serve, 3 setup, 4 task.")]
    attempt: int
    content: str


class TaskWorker(TypedDict):
    """The worker that a task runs on."""

    id: str


class Unused(TypedDict):
    """Fields of the clients' types that have no meaning here: always null."""

    deleted_at: None
    user_id: None
    team_id: None
    flow_id: None
    flow_run_id: None
    sub_flow_run_id: None
    chat_id: None
    agent_id: None
    agent_version_id: None
    agent: None
    engine_id: None
    engine: None
    rating: None
    telemetry: None
    transaction_id: None
    transaction: None
    graph_id: None
    user_public_key: None
    engine_public_key: None
    egress: None
    socket: None


class _Task(Unused):
    id: str
    short_id: str
    created_at: Time
    updated_at: Time
    status: StatusNumber
    status_name: StatusName
    status_text: Annotated[str, Meta(description="The progress message, else the status.")]
    app_id: str
    app: str
    app_version_id: str
    app_version: str
    app_variant: str
    variant: str
    function: str
    infra: str
    workers: list[str]
    setup: Any
    output: Annotated[Any, Meta(description="What the app returned, with every file as a URL.")]
    error: str | None
    error_code: str | None
    progress: Annotated[float | None, Meta(description="0..1, as the app reports it.")]
    progress_message: str | None
    events: list[TaskEvent]
    logs: Annotated[list[TaskLogLine], Meta(description="The newest lines.")]
    log_count: int
    worker_id: str | None
    worker: TaskWorker | None
    webhook: str | None
    session_id: str | None
    session_timeout: Annotated[float | None, Meta(description="Seconds.")]
    priority: int
    idempotency_key: str | None
    attempt: int
    run_at: Time | None
    deadline: Time | None
    timeout: Annotated[float | None, Meta(description="Seconds.")]
    cancel_requested_at: Time | None
    finished_at: Time | None
    metadata: dict[str, Any]
    visibility: str
    is_featured: bool
    usage_events: list[Any]


class Task(_Task):
    """A task."""

    input: Annotated[Any, Meta(description="What the app was given, with every file as a URL.")]


class TaskFrame(_Task):
    """One frame of a task's stream: the task, and what no earlier frame had."""

    input: NotRequired[Annotated[Any, Meta(description="Frames between the first and the last omit a large one.")]]
    new_events: list[TaskEvent]
    new_logs: list[TaskLogLine]
    cursor: Annotated[str, Meta(description="Resumes the stream after this frame.")]


class TaskStatus(TypedDict):
    """What clients poll."""

    id: str
    status: StatusNumber
    status_name: StatusName
    created_at: Time
    updated_at: Time
    progress: float | None
    progress_message: str | None


class TaskPage(TypedDict):
    """Some of the tasks, newest first."""

    items: list[Task]
    next_cursor: str | None
    has_next: bool


class TaskCancelled(TypedDict):
    """A task that was asked to end."""

    id: str
    status: StatusNumber
    cancelled: Annotated[bool, Meta(description="Whether it was asked to end: false if it had ended before.")]


class Deleted(TypedDict):
    """What is gone."""

    id: str
    deleted: bool


class File(TypedDict):
    """The record of a file."""

    id: str
    created_at: Time
    updated_at: Time
    uri: Annotated[str, Meta(description="Where its content is read; signed unless the file is public.")]
    filename: str
    path: str | None
    remote_path: str
    content_type: str
    size: Annotated[int | None, Meta(description="Bytes; those announced as long as there is no content.")]
    sha256: str | None
    public: bool
    ready: Annotated[bool, Meta(description="Whether the content has been uploaded.")]
    task_id: Annotated[str | None, Meta(description="The task that made it.")]
    expires_at: Time | None
    category: None
    rating: None
    metadata: None
    upload_url: NotRequired[Annotated[str, Meta(description="Where the content is to be put.")]]


class FilePage(TypedDict):
    """Some of the files, newest first."""

    items: list[File]
    next_cursor: str | None
    has_next: bool


class Gpus(TypedDict):
    """GPUs that an app needs."""

    count: int
    vram: Any


class Resources(TypedDict):
    """What an app needs."""

    gpu: Gpus
    ram: Any


class App(TypedDict):
    """A version of an app."""

    id: Annotated[str, Meta(description="`namespace/name`")]
    namespace: str
    name: str
    version_id: str
    version: str
    ref: Annotated[str, Meta(description="`namespace/name@version`")]
    latest: bool
    created_at: Time | None
    description: str
    category: str
    service: Annotated[str | None, Meta(description="The name under which `/v1/infer` offers it.")]
    functions: list[str]
    default_function: str
    variants: list[str]
    concurrency: int | None
    builtin: bool
    resources: Resources | None


class FunctionSchema(TypedDict):
    """One function of an app."""

    description: str
    input_schema: Annotated[dict[str, Any] | None, Meta(description="JSON Schema.")]
    output_schema: Annotated[dict[str, Any] | None, Meta(description="JSON Schema.")]


class AppVersionInfo(TypedDict):
    """A version of an app in the list of all."""

    version_id: str
    version: str
    created_at: Time
    latest: bool


class AppSchemas(TypedDict):
    """What is not in the list of apps."""

    input_schema: Annotated[dict[str, Any] | None, Meta(description="JSON Schema of the default function's input.")]
    output_schema: dict[str, Any] | None
    setup_schema: dict[str, Any] | None
    functions_schema: dict[str, FunctionSchema]
    packages: list[str]
    files: int
    size: Annotated[int, Meta(description="Bytes.")]
    versions: list[AppVersionInfo]


class AppDetail(App, AppSchemas):
    """A version of an app with its schemas, and the other versions."""


class AppRemoved(TypedDict):
    """What was removed."""

    id: str
    removed: Annotated[int, Meta(description="Number of versions.")]


class BuildLine(TypedDict):
    """A line of a deployment's log."""

    log: str


class BuildEnd(TypedDict):
    """The result of a deployment, after its log."""

    success: bool
    data: AppDetail


class Session(TypedDict):
    """A session: an app's state, kept in one worker between tasks."""

    id: str
    session_id: str
    status: Annotated[str, Meta(description="pending, active, expired or ended")]
    app: str
    app_id: str
    app_version_id: str
    app_variant: str
    call_count: int
    created_at: Time
    last_call_at: Time
    updated_at: Time
    expires_at: Time
    session_timeout: Annotated[float, Meta(description="Seconds.")]
