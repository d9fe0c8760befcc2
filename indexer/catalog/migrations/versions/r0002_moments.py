"""Of what moment a version is, with which checksum, and what its users should know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; versions that are there were seen when they were last confirmed.

    The table is not made anew, as SQLite would have it for columns that become required later:
    aliases and scans refer to its rows. Hence the defaults, which nothing else relies on.
    """
    op.add_column(
        "versions", sa.Column("seen_at", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("versions", sa.Column("as_of", sa.BigInteger))
    op.add_column("versions", sa.Column("checksum", sa.String(16)))
    op.add_column("versions", sa.Column("touched", sa.BigInteger))
    op.add_column("versions", sa.Column("notices", sa.JSON, nullable=False, server_default="[]"))
    op.execute("UPDATE versions SET seen_at = confirmed_at")
