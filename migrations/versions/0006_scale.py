"""What is looked for among many jobs: labels and references as rows, and indexes for lists, bells, limits and removals."""

import re
from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

AN_ID = re.compile(r"job-[0-9a-f]{24}")
LABELS = {
    "sqlite": "SELECT jobs.id, pair.key, pair.value, owner, created_at FROM jobs, json_each(jobs.labels) AS pair",
    "postgresql": "SELECT jobs.id, pair.key, pair.value, owner, created_at FROM jobs, jsonb_each_text(jobs.labels) AS pair",
}

# name, table, columns, and of what rows
INDEXES = (
    ("ix_jobs_state", "jobs", ["owner", "state", "created_at", "id"], None),
    ("ix_jobs_bells", "jobs", ["bell_rung_at", "queue"], "state = 'queued'"),
    ("ix_jobs_deadlines", "jobs", ["deadline"], "deadline IS NOT NULL AND state IN ('queued', 'paused')"),
    ("ix_jobs_limited", "jobs", ["max_seconds"], "state = 'queued' AND max_seconds IS NOT NULL AND ran_seconds > 0"),
    ("ix_removals_waiting", "removals", ["asked_at", "path"], "done_at IS NULL"),
    ("ix_removals_done", "removals", ["done_at"], "done_at IS NOT NULL"),
)


def upgrade() -> None:
    op.drop_index("ix_jobs_deadlines", table_name="jobs")
    for name, table, columns, where in INDEXES:
        _index(name, table, columns, where)
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_labels")),
    )
    op.create_index("ix_job_labels_listed", "job_labels", ["owner", "name", "value", "created_at", "job_id"], unique=False)
    op.create_table(
        "job_references",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("to_job", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_references_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "to_job", name=op.f("pk_job_references")),
    )
    op.create_index("ix_job_references_to_job", "job_references", ["to_job"], unique=False)
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    listed = LABELS[connection.dialect.name]
    connection.execute(sa.text(f"INSERT INTO job_labels (job_id, name, value, owner, created_at) {listed}"))
    jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("resolved", sa.JSON()))
    resolved = sa.cast(jobs.c.resolved, sa.Text())
    found = connection.execute(sa.select(jobs.c.id, resolved).where(resolved.contains("job-")))
    for some in found.partitions(1000):
        rows = [{"job_id": job_id, "to_job": named} for job_id, text in some for named in _named(text)]
        if rows:
            references = sa.table("job_references", sa.column("job_id"), sa.column("to_job"))
            connection.execute(sa.insert(references), rows)


def _named(text: str) -> Iterable[str]:
    return sorted(set(AN_ID.findall(text)))


def _index(name: str, table: str, columns: list[str], where: str | None) -> None:
    condition = sa.text(where) if where else None
    op.create_index(name, table, columns, unique=False, postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    op.drop_index("ix_job_references_to_job", table_name="job_references")
    op.drop_table("job_references")
    op.drop_index("ix_job_labels_listed", table_name="job_labels")
    op.drop_table("job_labels")
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    _index("ix_jobs_deadlines", "jobs", ["deadline"], "deadline IS NOT NULL")
