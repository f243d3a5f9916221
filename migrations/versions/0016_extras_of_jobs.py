"""What a job needs of its worker beside what every worker has: a part of what is alike in the line."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ALIKE = ["queue", "priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version"]
QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("extras", sa.String(length=120), server_default=sa.text("''"), nullable=False))
    _index([*ALIKE, "extras"])


def downgrade() -> None:
    _index(ALIKE)
    op.drop_column("jobs", "extras")


def _index(alike: list[str]) -> None:
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    columns = [*alike, "created_at", "id"]
    op.create_index("ix_jobs_waiting", "jobs", columns, unique=False, postgresql_where=QUEUED, sqlite_where=QUEUED)
