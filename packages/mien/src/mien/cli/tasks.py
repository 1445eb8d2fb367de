"""`mien tasks …`: tasks of a running server, through the task client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.table import Table

from inferencesh import Inference, TaskCancelled, TaskFailed, TaskStatus
from mien.cli.client import DEFAULT_URL, ApiKey, Url, mien_errors
from mien.cli.infer import table_of
from mien.cli.output import Output, err, out, show

tasks = typer.Typer(no_args_is_help=True)
TaskId = Annotated[str, typer.Argument(help="The task's id.")]
SHOWN = ("id", "app", "function", "variant", "created_at", "finished_at", "attempt", "worker_id", "error")


@contextmanager
def task_client(url: str, api_key: str) -> Iterator[Inference]:
    """A client that raises Mien's errors, with the server's code and message. Failed tasks end with exit code 1."""
    with mien_errors(url), Inference(api_key=api_key or "none", base_url=url) as client:
        try:
            yield client
        except (TaskFailed, TaskCancelled) as error:
            err.print(
                f"task {error.task_id} {error.how}" + (f": {error.error}" if error.error else ""),
                markup=False,
                style="bold red",
                soft_wrap=True,
            )
            raise typer.Exit(1) from None


@tasks.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only tasks with these statuses, e.g. running,failed.")] = None,
    app: Annotated[str | None, typer.Option(help="Only tasks of this app.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of tasks.")] = 20,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Output = "table",
) -> None:
    """List tasks, newest first."""
    with task_client(url, api_key) as client:
        show(_listed(client, limit, status=status, app=app), output, tasks_table)


def _listed(client: Inference, limit: int, **filters: Any) -> list[dict[str, Any]]:
    """Up to `limit` tasks. A page may be shorter than requested if its tasks are large."""
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = client.tasks.list(limit=limit - len(found), cursor=cursor, **filters)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


@tasks.command("show")
def show_task(task_id: TaskId, url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """Show one task: its status, input, output and events."""
    with task_client(url, api_key) as client:
        show(client.get_task(task_id), output, task_table)


@tasks.command()
def logs(task_id: TaskId, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Print the log of a task."""
    with task_client(url, api_key) as client:
        for line in client.tasks.logs(task_id):
            out.print(str(line.get("content", "")).rstrip("\n"), markup=False, soft_wrap=True)


@tasks.command()
def cancel(task_id: TaskId, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Cancel a task: immediately if it is queued, within its grace period if it is running."""
    with task_client(url, api_key) as client:
        client.cancel(task_id)
        status = TaskStatus(client.get_task(task_id)["status"])
    out.print(
        "cancelled" if status is TaskStatus.CANCELLED else f"cancellation requested; the task is now {_words(status)}"
    )


@tasks.command()
def watch(task_id: TaskId, url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """Follow a task to its end: status, progress and log on stderr, the output on stdout. Exit code 1 if it fails."""
    with task_client(url, api_key) as client:
        show_output(client.wait_for_completion(task_id, progress=True), output)


def show_output(task: dict[str, Any], output: str) -> None:
    """Print the output of a completed task."""
    show(task.get("output"), output, _output_table)


def _output_table(value: Any) -> Table | str:
    if isinstance(value, dict):
        return table_of({key: item for key, item in value.items() if item is not None})
    return str(value)


def tasks_table(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "no tasks"
    table = Table("id", "app", "status", "created", "error")
    for task in found:
        error = str(task.get("error") or "").partition("\n")[0]
        table.add_row(task["id"], str(task.get("app")), _words(task["status"]), str(task.get("created_at")), error)
    return table


def task_table(task: dict[str, Any]) -> Table:
    table = Table("", "", show_header=False)
    table.add_row("status", _words(task["status"]))
    for name in SHOWN:
        if task.get(name) is not None:
            table.add_row(name, str(task[name]))
    for name in ("setup", "input", "output"):
        if task.get(name) is not None:
            table.add_row(name, str(task[name]))
    for event in task.get("events") or ():
        table.add_row(_words(event["status"]), str(event.get("event_time")))
    return table


def _words(status: int) -> str:
    return TaskStatus(status).name.lower().replace("_", " ")
