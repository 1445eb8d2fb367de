"""Which files tasks were given; what those that are gone had made goes too. Never edited once released."""

import re
import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FILE = re.compile("mien-file://([a-z0-9]{26})/")


def upgrade() -> None:
    table = op.create_table(
        "task_inputs",
        sa.Column("task_seq", _Big, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("file_id", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_task_inputs_file", "task_inputs", ["file_id"])
    connection = op.get_bind()
    for seq in connection.execute(sa.text(_WITH_FILES)).scalars().all():
        texts = connection.execute(sa.text("SELECT input, setup FROM tasks WHERE seq = :seq"), {"seq": seq}).one()
        named = {file_id for text in texts if text for file_id in _FILE.findall(text)}
        if named:
            connection.execute(sa.insert(table), [{"task_seq": seq, "file_id": file_id} for file_id in named])
    connection.execute(sa.text(_LEFT_BEHIND), {"now": time.time()})


_WITH_FILES = "SELECT seq FROM tasks WHERE input LIKE '%mien-file://%' OR setup LIKE '%mien-file://%'"
_LEFT_BEHIND = """
    UPDATE files SET expires_at = :now
    WHERE task_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = files.task_id)
    AND NOT EXISTS (SELECT 1 FROM task_inputs WHERE task_inputs.file_id = files.id)
"""


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
