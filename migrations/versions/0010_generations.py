"""Texts that are written while their client reads: who reads, and what is written so far."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("reader_until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_generations_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_generations")),
    )
    op.create_index("ix_generations_reader_until", "generations", ["reader_until"], unique=False)
    op.create_table(
        "generated_pieces",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["generations.job_id"], name=op.f("fk_generated_pieces_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_generated_pieces")),
    )


def downgrade() -> None:
    op.drop_table("generated_pieces")
    op.drop_table("generations")
