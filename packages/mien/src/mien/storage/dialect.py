"""How SQLite is opened: everything that is specific to one database.

Statements elsewhere are portable. They lock rows by `SELECT … FOR UPDATE`, which SQLAlchemy omits for SQLite: there the
single writer and `BEGIN IMMEDIATE` give the same guarantee.
"""

import sqlite3
from pathlib import Path

import sqlalchemy as sa

_BUSY_SECONDS = 10


def writer_engine(path: Path) -> sa.Engine:
    """The only connection that writes. WAL with full sync: a commit that returned survives a power cut."""
    engine = _engine(path, ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"])
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def reader_engine(path: Path) -> sa.Engine:
    """Read-only connections; each transaction sees the latest committed state."""
    engine = _engine(path, ["query_only=ON"])
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _engine(path: Path, pragmas: list[str]) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS, "cached_statements": 256},
    )

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # keeps the driver from beginning transactions of its own
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    sa.event.listen(engine, "connect", connected)
    return engine
