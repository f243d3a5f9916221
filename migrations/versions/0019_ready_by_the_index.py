"""Whether a job is ready is read from the index of the line: who counts a thousand looks at no rows."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

IN_LINE = ["queue", "priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version", "extras", "created_at", "id"]
READY = ["not_before", "cancel_requested_at", "deadline", "max_seconds", "ran_seconds", "state"]
QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    _index([*IN_LINE, *READY])


def downgrade() -> None:
    _index(IN_LINE)


def _index(columns: list[str]) -> None:
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    op.create_index("ix_jobs_waiting", "jobs", columns, unique=False, postgresql_where=QUEUED, sqlite_where=QUEUED)
