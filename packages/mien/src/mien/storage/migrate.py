"""The schema of a database when it is opened: made, known to be current, or migrated."""

from pathlib import Path

import sqlalchemy as sa

from mien.storage.data_folder import require_unused
from mien.storage.schema import metadata

HEAD = "0003"
"""The revision of the tables in `schema`, which the latest migration leads to."""

_version = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def migrate(engine: sa.Engine, path: Path) -> None:
    """Make the tables of a new database, or run pending migrations after a backup of the database at `path`, in one
    transaction each.

    Raises Unavailable for a database of a newer version of Mien, DatabaseMissing for one that was lost, StorageFull.
    """
    with engine.begin() as connection:
        here = _revision(connection)
        if here is None:
            require_unused(path)
            metadata.create_all(connection, checkfirst=False)
            _version.create(connection)
            connection.execute(sa.insert(_version).values(version_num=HEAD))
    if here not in (None, HEAD):
        from mien.storage.upgrade import upgrade  # Alembic is a tenth of all imports, and hardly ever needed

        upgrade(engine, path, here)


def _revision(connection: sa.Connection) -> str | None:
    """The database's revision; None for a database without tables."""
    if not sa.inspect(connection).has_table(_version.name):
        return None
    return connection.execute(sa.select(_version.c.version_num)).scalar()
