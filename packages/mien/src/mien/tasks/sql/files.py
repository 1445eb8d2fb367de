"""The files of tasks: those in a task's input, and those that expire with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mien.errors import InvalidField
from mien.storage.file_records import files_named
from mien.storage.schema import files, task_inputs, tasks

_IDS = 500
"""In one statement: databases limit its parameters."""


def record_inputs(connection: sa.Connection, seq: int, row: Mapping[str, Any], now: float) -> None:
    """Reference the files that the new task's row names, so that none of them expires before the task is deleted.

    Raises InvalidField for one that expired after the API had checked it, its last task having been deleted.
    """
    named = files_named(row["input"]) | files_named(row["setup"])
    if not named:
        return
    # Those of the task's owner only: naming another's file must not keep it from expiring, nor tell that it exists.
    ids = sorted(named)
    for start in range(0, len(ids), _IDS):
        some = files.c.id.in_(ids[start : start + _IDS])
        known = sa.select(sa.literal(seq), files.c.id).where(some, files.c.owner == row["owner"])
        connection.execute(sa.insert(task_inputs).from_select(["task_seq", "file_id"], known))
    theirs = sa.select(files.c.id).join(task_inputs, task_inputs.c.file_id == files.c.id)
    late = theirs.where(task_inputs.c.task_seq == seq, files.c.expires_at <= now).limit(1)
    if (gone := connection.execute(late).scalar()) is not None:
        raise InvalidField(f"this server has no file {gone} any more; send it again")


def release_files(connection: sa.Connection, seqs: Sequence[int]) -> None:
    """Let the files expire that only these tasks, which are about to be deleted, made or reference.

    Runs in the transaction that deletes the tasks, so that no file outlives them; the file store removes expired files.
    Uploads belong to their owner and are not affected.
    """
    theirs = sa.or_(
        files.c.task_id.in_(sa.select(tasks.c.id).where(tasks.c.seq.in_(seqs))),
        files.c.id.in_(sa.select(task_inputs.c.file_id).where(task_inputs.c.task_seq.in_(seqs))),
    )
    maker_stays = sa.exists().where(tasks.c.id == files.c.task_id, tasks.c.seq.not_in(seqs))
    user_stays = sa.exists().where(task_inputs.c.file_id == files.c.id, task_inputs.c.task_seq.not_in(seqs))
    wanted = sa.update(files).where(files.c.task_id.is_not(None), theirs, ~maker_stays, ~user_stays)
    # Long ago, not now: nobody can name them any more, so that no clock has a say in it.
    connection.execute(wanted.values(expires_at=0.0))
