"""Data sets that are uploaded: files under a name, by their versions, and what is being sent."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.create_table(
        "dataset_versions",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("file_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_dataset_versions_file_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "name", "version", name=op.f("pk_dataset_versions")),
    )
    op.create_index("ix_dataset_versions_newest", "dataset_versions", ["owner", "name", "created_at"], unique=False)
    op.create_index("ix_dataset_versions_file_id", "dataset_versions", ["file_id"], unique=False)
    op.create_table(
        "dataset_uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("entry", DOCUMENT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_uploads")),
    )
    op.create_index("ix_dataset_uploads_age", "dataset_uploads", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_table("dataset_uploads")
    op.drop_table("dataset_versions")
