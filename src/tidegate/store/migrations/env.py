"""Runs the chain on the connection `store.migrate` hands over. Alembic loads this file by path."""

from alembic import context

from tidegate.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
)
context.run_migrations()
