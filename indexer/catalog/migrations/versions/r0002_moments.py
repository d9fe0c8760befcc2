"""Of what moment a version is, with which checksum, and what its users should know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; versions that are there were seen when they were last confirmed."""
    with op.batch_alter_table("versions") as table:
        table.add_column(sa.Column("seen_at", sa.BigInteger))
        table.add_column(sa.Column("as_of", sa.BigInteger))
        table.add_column(sa.Column("checksum", sa.String(16)))
        table.add_column(sa.Column("touched", sa.BigInteger))
        table.add_column(sa.Column("notices", sa.JSON))
    op.execute("UPDATE versions SET seen_at = confirmed_at, notices = '[]'")
    with op.batch_alter_table("versions") as table:
        table.alter_column("seen_at", existing_type=sa.BigInteger, nullable=False)
        table.alter_column("notices", existing_type=sa.JSON, nullable=False)
