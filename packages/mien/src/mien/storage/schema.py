"""The tables, as of the latest migration; portable between SQLite and PostgreSQL.

JSON is stored as text (written by orjson), times as seconds since 1970 in double precision.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

_Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite autoincrements INTEGER primary keys only

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("seq", _Big, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("app_version", sa.Text, nullable=False),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("infra", sa.Text, nullable=False),
    sa.Column("workers", sa.Text, nullable=False),
    sa.Column("setup", sa.Text),
    sa.Column("setup_key", sa.Text, nullable=False),
    sa.Column("input", sa.Text),
    sa.Column("output", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("progress", sa.Double),
    sa.Column("progress_message", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("webhook", sa.Text),
    sa.Column("session_id", sa.Text),
    sa.Column("session_timeout", sa.Double),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("holder", sa.Text),
    sa.Column("lease_until", sa.Double),
    sa.Column("deadline", sa.Double),
    sa.Column("timeout", sa.Double),
    sa.Column("run_at", sa.Double),
    sa.Column("cancel_requested_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("log_count", sa.Integer, nullable=False),
    sa.Column("events", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key", name="uq_tasks_idempotency"),
    sa.Index("ix_tasks_status", "status", "seq"),
    sa.Index("ix_tasks_app", "app", "seq"),
    sa.Index("ix_tasks_session", "session_id", "seq"),
    sa.Index("ix_tasks_finished", "finished_at"),
    sa.Index("ix_tasks_owner", "owner", "seq"),
    sa.Index("ix_tasks_owner_status", "owner", "status", "run_at"),
    sqlite_autoincrement=True,
)

task_logs = sa.Table(
    "task_logs",
    metadata,
    sa.Column("task_seq", _Big, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

task_inputs = sa.Table(
    "task_inputs",
    metadata,
    sa.Column("task_seq", _Big, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True),
    sa.Column("file_id", sa.Text, primary_key=True),
    sa.Index("ix_task_inputs_file", "file_id"),
    sqlite_with_rowid=False,
)
"""The files that a task's input and setup refer to."""

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("task_seq", _Big, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double),
    sa.Column("delivered_at", sa.Double),
    sa.Column("error", sa.Text),
    sa.Index("ix_webhooks_next", "next_at"),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("path", sa.Text),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("declared_type", sa.Text),
    sa.Column("declared_size", _Big),
    sa.Column("size", _Big),
    sa.Column("sha256", sa.Text),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("task_id", sa.Text),
    sa.Column("expires_at", sa.Double),
    sa.Index("ix_files_sha256", "sha256"),
    sa.Index("ix_files_task", "task_id"),
    sa.Index("ix_files_expires", "expires_at"),
    sa.Index("ix_files_created", "created_at", "id"),
    sa.Index("ix_files_owner", "owner", "created_at", "id"),
    sa.Index("ix_files_owner_size", "owner", "size", "declared_size"),
)

meta = sa.Table(
    "meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
"""Facts about the whole database."""
