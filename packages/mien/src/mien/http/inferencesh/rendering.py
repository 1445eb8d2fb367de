"""Tasks, log lines, files, apps and sessions as the JSON of this API."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, overload

import orjson

from mien.apps.record import AppVersion, Deployed
from mien.encoded import Encoded
from mien.http.inferencesh import schema
from mien.http.inferencesh.dialect import Table, wire_number, wire_status
from mien.storage.file_records import SCHEME, FileRecord
from mien.storage.links import Links
from mien.tasks.builtin import BuiltinApp
from mien.tasks.records import Event, LogLine, Task
from mien.tasks.sessions import Session, Sessions

_UNUSED: schema.Unused = {
    "deleted_at": None,
    "user_id": None,
    "team_id": None,
    "flow_id": None,
    "flow_run_id": None,
    "sub_flow_run_id": None,
    "chat_id": None,
    "agent_id": None,
    "agent_version_id": None,
    "agent": None,
    "engine_id": None,
    "engine": None,
    "rating": None,
    "telemetry": None,
    "transaction_id": None,
    "transaction": None,
    "graph_id": None,
    "user_public_key": None,
    "engine_public_key": None,
    "egress": None,
    "socket": None,
}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""The first and the last second of the years 1 to 9999, in seconds since 1970: the times that can be shown."""


@overload
def rfc3339(at: float) -> str: ...
@overload
def rfc3339(at: float | None) -> str | None: ...
def rfc3339(at: float | None) -> str | None:
    """RFC 3339, UTC, microseconds. Never raises: for what cannot be shown, the nearest time that can, as older versions
    stored such times."""
    if at is None:
        return None
    if not EARLIEST <= at <= LATEST:
        at = LATEST if at > LATEST else EARLIEST
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def event_json(event: Event, task_id: str, number: int, table: Table) -> schema.TaskEvent:
    at = rfc3339(event.at)
    return {
        "id": f"{task_id}.{number}",
        "task_id": task_id,
        "created_at": at,
        "event_time": at,
        "status": wire_number(event.status, table),
        "status_name": event.status.name.lower(),
        "attempt": event.attempt,
        "reason": event.reason,
    }


def log_json(line: LogLine, task_id: str) -> schema.TaskLogLine:
    at = rfc3339(line.at)
    return {
        "id": line.number,
        "task_id": task_id,
        "created_at": at,
        "updated_at": at,
        "log_type": int(line.kind),
        "attempt": line.attempt,
        "content": line.text,
    }


def external_json(given: Encoded, links: Links, base: str, owner: str) -> Any:
    """The value for orjson, with every file as a URL. Without files its stored text is sent unchanged."""
    return links.externalize(given.value, base, owner) if SCHEME in given.text else orjson.Fragment(given.text)


def task_json(task: Task, table: Table, links: Links, base: str, logs: Iterable[LogLine] = ()) -> schema.Task:
    """The whole task, for orjson."""
    return {
        "id": task.id,
        "short_id": task.short_id,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "status": wire_status(task, table),
        "status_name": task.status.name.lower(),
        "status_text": task.progress_message or task.status.name.lower(),
        "app_id": task.app,
        "app": task.app,
        "app_version_id": task.app_version,
        "app_version": task.app_version[:10],
        "app_variant": task.variant,
        "variant": task.variant,
        "function": task.function,
        "infra": task.infra,
        "workers": list(task.workers),
        "setup": links.externalize(task.setup, base, task.owner),
        "input": external_json(task.input, links, base, task.owner),
        "output": links.externalize(task.output, base, task.owner),
        "error": task.error,
        "error_code": task.error_code,
        "progress": task.progress,
        "progress_message": task.progress_message,
        "events": [event_json(event, task.id, number, table) for number, event in enumerate(task.events, 1)],
        "logs": [log_json(line, task.id) for line in logs],
        "log_count": task.log_count,
        "worker_id": task.worker,
        "worker": None if task.worker is None else {"id": task.worker},
        "webhook": task.webhook,
        "session_id": task.session_id,
        "session_timeout": task.session_timeout,
        "priority": task.priority,
        "idempotency_key": task.idempotency_key,
        "attempt": task.attempt,
        "run_at": rfc3339(task.run_at),
        "deadline": rfc3339(task.deadline),
        "timeout": task.timeout,
        "cancel_requested_at": rfc3339(task.cancel_requested_at),
        "finished_at": rfc3339(task.finished_at),
        "metadata": task.metadata,
        "visibility": "private",
        "is_featured": False,
        "usage_events": [],
        **_UNUSED,
    }


def status_json(task: Task, table: Table) -> schema.TaskStatus:
    """What clients poll."""
    return {
        "id": task.id,
        "status": wire_status(task, table),
        "status_name": task.status.name.lower(),
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "progress": task.progress,
        "progress_message": task.progress_message,
    }


def file_json(record: FileRecord, links: Links, base: str, *, upload: bool = False) -> schema.File:
    shown: schema.File = {
        "id": record.id,
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
        "uri": links.read_url(base, record),
        "filename": record.filename,
        "path": record.path,
        "remote_path": f"files/{record.id}",
        "content_type": record.content_type,
        "size": record.declared_size if record.size is None else record.size,
        "sha256": record.sha256,
        "public": record.public,
        "ready": record.ready,
        "task_id": record.task_id,
        "expires_at": rfc3339(record.expires_at),
        "category": None,
        "rating": None,
        "metadata": None,
    }
    if upload:
        shown["upload_url"] = links.write_url(base, record)
    return shown


def app_json(version: AppVersion, *, latest: bool) -> schema.App:
    """An app's version without its schemas."""
    manifest = version.manifest
    return {
        "id": version.app,
        "namespace": version.namespace,
        "name": version.name,
        "version_id": version.version,
        "version": version.short_id,
        "ref": f"{version.app}@{version.short_id}",
        "latest": latest,
        "created_at": version.created.isoformat(),
        "description": manifest.description,
        "category": manifest.category,
        "service": manifest.service or None,
        "functions": list(version.functions),
        "default_function": version.default_function,
        "variants": list(version.variants),
        "concurrency": version.concurrency,
        "builtin": False,
        "resources": {
            "gpu": {"count": manifest.resources.gpus, "vram": manifest.resources.vram},
            "ram": manifest.resources.ram,
        },
    }


def app_detail_json(version: AppVersion, versions: list[Deployed], latest: str) -> schema.AppDetail:
    """A version with its schemas, and the other versions of its app."""
    default = version.functions.get(version.default_function)
    return {
        **app_json(version, latest=version.version == latest),
        "input_schema": default.input_schema if default else None,
        "output_schema": default.output_schema if default else None,
        "setup_schema": version.setup_schema,
        "functions_schema": {
            name: {
                "description": function.description,
                "input_schema": function.input_schema,
                "output_schema": function.output_schema,
            }
            for name, function in version.functions.items()
        },
        "packages": list(version.packages),
        "files": version.files,
        "size": version.size,
        "versions": [
            {
                "version_id": other.version.version,
                "version": other.version.short_id,
                "created_at": other.version.created.isoformat(),
                "latest": other.version.version == latest,
            }
            for other in versions
        ],
    }


def builtin_json(app: BuiltinApp) -> schema.App:
    """A built-in app without its schemas."""
    namespace, _, name = app.name.partition("/")
    return {
        "id": app.name,
        "namespace": namespace,
        "name": name,
        "version_id": "",
        "version": "",
        "ref": app.name,
        "latest": True,
        "created_at": None,
        "description": app.description,
        "category": "built-in",
        "service": app.service,
        "functions": ["run"],
        "default_function": "run",
        "variants": ["default"],
        "concurrency": None,
        "builtin": True,
        "resources": None,
    }


def builtin_detail_json(app: BuiltinApp) -> schema.AppDetail:
    """A built-in app with its schemas."""
    return {
        **builtin_json(app),
        "input_schema": app.input_schema,
        "output_schema": app.output_schema,
        "setup_schema": None,
        "functions_schema": {
            "run": {
                "description": app.description,
                "input_schema": app.input_schema,
                "output_schema": app.output_schema,
            }
        },
        "packages": [],
        "files": 0,
        "size": 0,
        "versions": [],
    }


def session_json(session: Session, sessions: Sessions) -> schema.Session:
    return {
        "id": session.id,
        "session_id": session.id,
        "status": sessions.state(session),
        "app": session.app,
        "app_id": session.app,
        "app_version_id": session.app_version,
        "app_variant": session.variant,
        "call_count": session.calls,
        "created_at": rfc3339(session.created_at),
        "last_call_at": rfc3339(session.used_at),
        "updated_at": rfc3339(session.used_at),
        "expires_at": rfc3339(session.used_at + session.timeout),
        "session_timeout": session.timeout,
    }


def webhook_body(task: Task, links: Links) -> bytes:
    """`{"type": "task.completed", "timestamp": …, "data": {…the task…}}`, in the task's own dialect."""
    table: Table = "A" if task.dialect == "A" else "B"
    data = task_json(task, table, links, links.default_base)
    message = {"type": f"task.{task.status.name.lower()}", "timestamp": rfc3339(task.finished_at), "data": data}
    return ascii_json(message)


def ascii_json(value: Any) -> bytes:
    """JSON in ASCII only: some clients split lines at characters beyond it."""
    data = orjson.dumps(value)
    if data.isascii():
        return data
    return _NOT_ASCII.sub(lambda match: json.dumps(match.group())[1:-1], data.decode()).encode()
