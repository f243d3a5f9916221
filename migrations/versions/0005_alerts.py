"""What is tested of each checkpoint, and its distance to the best by each measure."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("metrics", sa.Column("versus_leader", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True))
    op.create_table(
        "alert_tests",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("global_step", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=64), nullable=False),
        sa.Column("alert", sa.String(length=64), nullable=False),
        sa.Column("fires", sa.Boolean(), nullable=True),
        sa.Column("statistic", sa.Double(), nullable=True),
        sa.Column("bound", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("n_documents", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id", "step", "global_step", "split"],
            ["measurements.job_id", "measurements.step", "measurements.global_step", "measurements.split"],
            name=op.f("fk_alert_tests_job_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "step", "global_step", "split", "alert", name=op.f("pk_alert_tests")),
    )


def downgrade() -> None:
    op.drop_table("alert_tests")
    op.drop_column("metrics", "versus_leader")
