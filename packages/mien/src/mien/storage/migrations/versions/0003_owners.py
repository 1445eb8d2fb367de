"""Owners instead of ids of API keys, and facts about the whole database. Never edited once released."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    connection.execute(sa.text(_USED_TWICE))
    connection.execute(sa.text("UPDATE tasks SET owner = 'default'"))
    connection.execute(sa.text("UPDATE files SET owner = 'default'"))
    op.create_index("ix_tasks_owner", "tasks", ["owner", "seq"])
    op.create_index("ix_tasks_owner_status", "tasks", ["owner", "status", "run_at"])
    op.create_index("ix_files_owner", "files", ["owner", "created_at", "id"])
    op.create_index("ix_files_owner_size", "files", ["owner", "size", "declared_size"])
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))


# Two API keys may have used the same idempotency key, which becomes one owner's: it stays with the newest task, as a
# client that still repeats a request is likelier to be that one's.
_USED_TWICE = """
    UPDATE tasks SET idempotency_key = NULL
    WHERE idempotency_key IS NOT NULL
    AND seq < (SELECT max(newer.seq) FROM tasks AS newer WHERE newer.idempotency_key = tasks.idempotency_key)
"""


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
