"""Migrations of the databases of earlier versions, with Alembic."""

from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from mien.errors import Unavailable
from mien.storage.backup import backup

log = structlog.get_logger()
_FOLDER = Path(__file__).parent / "migrations"


def upgrade(engine: sa.Engine, path: Path, here: str) -> None:
    """Run the migrations that follow revision `here` in one transaction, after a backup of the database at `path`.

    Raises Unavailable for a revision of a newer version of Mien, StorageFull.
    """
    config = configuration()
    scripts = ScriptDirectory.from_config(config)
    if here not in {script.revision for script in scripts.walk_revisions()}:
        raise Unavailable(
            f"the task database was written by a newer version of Mien (its schema is {here!r}); start that version, "
            "or restore the backup that it made before it changed the database, in backups/ of MIEN_DATA_DIR"
        )
    log.info("the database is changed for this version", schema=here, backup=backup(path, here).name)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def configuration() -> Config:
    """Alembic's, with the migrations of this version."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
