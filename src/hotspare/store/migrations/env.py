"""Run by Alembic, always on a connection of ours (store.migrate)."""

from alembic import context

from hotspare.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata,
                  render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
