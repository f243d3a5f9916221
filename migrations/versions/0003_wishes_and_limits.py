"""What clients wish of jobs, limits of time, retries, and files that are kept no longer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {"ix_jobs_deadlines": "deadline", "ix_jobs_expiring": "expires_at"}


def upgrade() -> None:
    # SQLite cannot change a table that others refer to but by adding columns, so each is nullable or has its default
    for column in (
        sa.Column("max_retries", sa.Integer(), server_default="3", nullable=False),
        sa.Column("max_seconds", sa.Double(), nullable=True),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("artifacts_ttl_seconds", sa.Double(), nullable=True),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("running_since", sa.Double(), nullable=True),
        sa.Column("ran_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("pause_requested_at", sa.Double(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
    ):
        op.add_column("jobs", column)
    for index, name in INDEXES.items():
        given = sa.text(f"{name} IS NOT NULL")
        op.create_index(index, "jobs", [name], postgresql_where=given, sqlite_where=given)
    op.add_column("checkpoints", sa.Column("removed_at", sa.Double(), nullable=True))
    op.create_table(
        "removals",
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_removals")),
    )


def downgrade() -> None:
    op.drop_table("removals")
    op.drop_column("checkpoints", "removed_at")
    for index in INDEXES:
        op.drop_index(index, "jobs")
    for name in (
        *("expires_at", "pause_requested_at", "ran_seconds", "running_since", "not_before", "retries"),
        *("artifacts_ttl_seconds", "deadline", "max_seconds", "max_retries"),
    ):
        op.drop_column("jobs", name)
