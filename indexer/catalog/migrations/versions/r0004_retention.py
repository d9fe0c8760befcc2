"""When versions expire, that they were deleted, and which aliases are protected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns: nothing that is there expires, was deleted, or is protected."""
    op.add_column("versions", sa.Column("expires_at", sa.BigInteger))
    op.add_column("versions", sa.Column("deleted_at", sa.BigInteger))
    op.add_column("versions", sa.Column("deleted_because", sa.String(16)))
    op.create_index(None, "versions", ["expires_at"])
    op.add_column(
        "aliases", sa.Column("protected", sa.Boolean, nullable=False, server_default=sa.false())
    )
