"""What runs are and what they use, and more labels of versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns and tables; runs that are there were made by snapshots, and have finished.

    Defaults are there for rows that are there; nothing else relies on them. See `r0002_moments`.
    """
    _extend_runs()
    _extend_labels()
    op.create_table(
        "uses",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String(128), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("version_id", sa.Integer, sa.ForeignKey("versions.id"), nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.Column("use_as", sa.String(128)),
        sa.UniqueConstraint("run_id", "version_id"),
    )
    op.create_index(None, "uses", ["version_id"])
    op.create_index(None, "scans", ["run_id"])


def _extend_runs() -> None:
    for column in (
        sa.Column("name", sa.String(128), nullable=False, server_default=""),
        sa.Column("job_type", sa.String(128), nullable=False, server_default="snapshot"),
        sa.Column("state", sa.String(16), nullable=False, server_default="finished"),
        sa.Column("started_at", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("config", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("notes", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("runs", column)
    op.execute(
        "UPDATE runs SET name = id, finished_at = created_at, started_at = coalesce("
        "(SELECT min(started_at) FROM scans WHERE scans.run_id = runs.id), created_at)"
    )
    op.create_index(None, "runs", ["project_id", "created_at", "id"])


def _extend_labels() -> None:
    for table in ("artifacts", "versions"):
        description = sa.Column("description", sa.Text, nullable=False, server_default="")
        op.add_column(table, description)
    op.add_column("versions", sa.Column("metadata", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "version_tags",
        sa.Column("version_id", sa.Integer, sa.ForeignKey("versions.id"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
    )
    op.create_index(None, "version_tags", ["name"])
