"""Schema migrations, with Alembic."""

from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from mien.errors import Unavailable
from mien.storage.backup import backup
from mien.storage.data_folder import require_unused

log = structlog.get_logger()
_FOLDER = Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine, path: Path) -> None:
    """Run pending migrations in one transaction, after a backup of the database at `path`.

    Raises Unavailable for a database of a newer version of Mien, DatabaseMissing for one that was lost, StorageFull.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        here = MigrationContext.configure(connection).get_current_revision()
    if here == scripts.get_current_head():
        return
    if here is None:
        require_unused(path)
    elif here not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(
            f"the task database was written by a newer version of Mien (its schema is {here!r}); start that version, "
            "or restore the backup that it made before it changed the database, in backups/ of MIEN_DATA_DIR"
        )
    else:
        log.info("the database is changed for this version", schema=here, backup=backup(path, here).name)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
