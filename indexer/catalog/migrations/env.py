"""Runs the migrations on the connection that `catalog.database` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from indexer.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
