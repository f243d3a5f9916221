"""SQLite keeps a series in the order of its key: a row found by way of its index took twice as long, and twice the room."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _made_anew(with_rowid=False)


def downgrade() -> None:
    _made_anew(with_rowid=True)


def _made_anew(with_rowid: bool) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.rename_table("series", "series_before")
    op.create_table(
        "series",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("global_step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_series_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step", "name", "global_step", name="pk_series"),
        sqlite_with_rowid=with_rowid,
    )
    op.execute("INSERT INTO series SELECT * FROM series_before ORDER BY job_id, step, name, global_step")
    op.drop_table("series_before")
