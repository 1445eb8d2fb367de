"""Schema migrations, with Alembic."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from mien.errors import Unavailable

_FOLDER = Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine) -> None:
    """Run pending migrations in one transaction. Raises Unavailable for a database of a newer version of Mien."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        here = MigrationContext.configure(connection).get_current_revision()
        if here == scripts.get_current_head():
            return
        if here is not None and here not in {script.revision for script in scripts.walk_revisions()}:
            raise Unavailable(f"the task database was created by a newer version of Mien (its schema is {here!r})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
