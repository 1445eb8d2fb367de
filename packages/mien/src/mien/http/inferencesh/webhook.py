"""The body of webhooks: the task as the stream shows it at its end."""

from mien.http.inferencesh.dialect import Table
from mien.http.inferencesh.frames import ascii_json
from mien.http.inferencesh.shapes import task_shape, time_text
from mien.storage.links import Links
from mien.tasks.records import Task


def webhook_body(task: Task, links: Links) -> bytes:
    """`{"type": "task.completed", "timestamp": …, "data": {…the task…}}`, statuses by the task's own table."""
    table: Table = "A" if task.dialect == "A" else "B"
    data = task_shape(task, table, links, links.default_base)
    message = {"type": f"task.{task.status.name.lower()}", "timestamp": time_text(task.finished_at), "data": data}
    return ascii_json(message)
