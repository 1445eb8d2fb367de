"""The files of tasks: which a task was given, and which of them end with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mien.database.schema import files, task_inputs, tasks
from mien.files.names import files_named


def record_inputs(connection: sa.Connection, seq: int, row: Mapping[str, Any]) -> None:
    """Remember the files that the new task's row names."""
    named = files_named(row["input"]) | files_named(row["setup"])
    if named:
        given = [{"task_seq": seq, "file_id": file_id} for file_id in sorted(named)]
        connection.execute(sa.insert(task_inputs), given)


def release_files(connection: sa.Connection, seqs: Sequence[int], now: float) -> None:
    """Those tasks are about to be deleted: what a task made and no other task needs expires with them.

    In the same transaction, so that there is never a file without its task; the file store removes what has expired.
    Uploads are their owner's: no task takes them along.
    """
    theirs = sa.or_(
        files.c.task_id.in_(sa.select(tasks.c.id).where(tasks.c.seq.in_(seqs))),
        files.c.id.in_(sa.select(task_inputs.c.file_id).where(task_inputs.c.task_seq.in_(seqs))),
    )
    maker_stays = sa.exists().where(tasks.c.id == files.c.task_id, tasks.c.seq.not_in(seqs))
    user_stays = sa.exists().where(task_inputs.c.file_id == files.c.id, task_inputs.c.task_seq.not_in(seqs))
    wanted = sa.update(files).where(files.c.task_id.is_not(None), theirs, ~maker_stays, ~user_stays)
    connection.execute(wanted.values(expires_at=now))
