"""Alembic's entry: migrations run on the connection, and in the transaction, that the caller brings."""

from alembic import context

from mien.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things in place
    transactional_ddl=True,
)
context.run_migrations()
