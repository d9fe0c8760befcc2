"""The history of the catalog's schema, as Alembic runs it."""
