"""What a key made that is no job: the first answer to it, kept for a day, sealed where it holds a secret."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
JOB = sa.String(length=40)


def upgrade() -> None:
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.alter_column("job_id", existing_type=JOB, nullable=True)
        keys.add_column(sa.Column("subject", sa.Text(), nullable=True))
        keys.add_column(sa.Column("answer", DOCUMENT, nullable=True))
        keys.add_column(sa.Column("sealed", sa.Text(), nullable=True))
    op.create_index("ix_idempotency_keys_age", "idempotency_keys", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_age", table_name="idempotency_keys")
    op.execute("DELETE FROM idempotency_keys WHERE job_id IS NULL")
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.drop_column("sealed")
        keys.drop_column("answer")
        keys.drop_column("subject")
        keys.alter_column("job_id", existing_type=JOB, nullable=False)
