"""Counts that never fall, of what ended and what was fenced out; who was refused what; which files' rows are to be counted.

The index by when an attempt ended goes: the last hour's numbers come of the counts now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BY_END = "ix_attempts_finished"


def upgrade() -> None:
    op.create_table(
        "counts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("second", sa.String(length=64), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counts")),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
    )
    alike = ["day", "owner", "key", "action", "client", "status", "code"]
    op.create_index("ix_refusals_alike", "refusals", alike, unique=True)
    op.create_index("ix_refusals_owner", "refusals", ["owner", "id"], unique=False)
    uncounted = sa.text("rows IS NULL AND purpose = 'fine-tune'")
    op.create_index("ix_files_uncounted", "files", ["created_at"], postgresql_where=uncounted, sqlite_where=uncounted)
    op.drop_index(BY_END, table_name="attempts")


def downgrade() -> None:
    has_ended = sa.text("finished_at IS NOT NULL")
    op.create_index(BY_END, "attempts", ["finished_at"], postgresql_where=has_ended, sqlite_where=has_ended)
    op.drop_index("ix_files_uncounted", table_name="files")
    op.drop_table("refusals")
    op.drop_table("counts")
