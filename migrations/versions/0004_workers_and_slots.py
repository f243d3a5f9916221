"""Workers, their slots, and what a job asks of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
QUEUED, RUNNING = sa.text("state = 'queued'"), sa.text("state = 'running'")

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What jobs that were there before are taken to ask for: whatever their worker gives them, whole. The defaults stay: to take them
# away SQLite would make the table anew, and its rows' dependents would go with the old one.
NEW_COLUMNS = {"spec_version": "1", "gpus": "-1", "gpu_permille": "1000", "gpu_gb": "0"}


def upgrade() -> None:
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    for name, default in NEW_COLUMNS.items():
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default=default))
    _fill_gpus()
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["queue", "priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version", "created_at", "id"],
        unique=False,
        postgresql_where=QUEUED,
        sqlite_where=QUEUED,
    )
    op.create_index("ix_jobs_running", "jobs", ["owner"], unique=False, postgresql_where=RUNNING, sqlite_where=RUNNING)

    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("instance", sa.String(length=40), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("process_started_at", sa.Double(), nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("spec_versions", DOCUMENT, nullable=False),
        sa.Column("queues", DOCUMENT, nullable=False),
        sa.Column("sharing", sa.Boolean(), nullable=False),
        sa.Column("lease_seconds", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("stopped_at", sa.Double(), nullable=True),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("stop_jobs", sa.Boolean(), nullable=False),
        sa.Column("reserved_for", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(["reserved_for"], ["jobs.id"], name=op.f("fk_workers_reserved_for"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        sa.UniqueConstraint("reserved_for", name=op.f("uq_workers_reserved_for")),
    )
    op.create_table(
        "slots",
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("gpu", sa.Text(), nullable=True),
        sa.Column("gpu_name", sa.Text(), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("used_permille", sa.Integer(), nullable=False),
        sa.Column("readings", DOCUMENT, nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.CheckConstraint("used_permille BETWEEN 0 AND 1000", name=op.f("ck_slots_never_more_than_all")),
        sa.ForeignKeyConstraint(["worker"], ["workers.name"], name=op.f("fk_slots_worker"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("worker", "position", name=op.f("pk_slots")),
    )
    a_gpu = sa.text("gpu IS NOT NULL")
    op.create_index("ix_slots_gpu", "slots", ["gpu"], unique=True, postgresql_where=a_gpu, sqlite_where=a_gpu)
    op.create_table(
        "taken_slots",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("permille", sa.Integer(), nullable=False),
        sa.CheckConstraint("permille BETWEEN 1 AND 1000", name=op.f("ck_taken_slots_is_a_part")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_taken_slots_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker", "position"], ["slots.worker", "slots.position"], name=op.f("fk_taken_slots_worker")),
        sa.PrimaryKeyConstraint("job_id", "worker", "position", name=op.f("pk_taken_slots")),
    )
    op.create_index("ix_taken_slots_worker", "taken_slots", ["worker", "position"], unique=False)


def _fill_gpus() -> None:
    """What jobs that wait or may be tried again said of GPUs, from their documents."""
    jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("resolved", DOCUMENT), sa.column("gpus", sa.Integer()))
    said = jobs.c.resolved["resources"]["gpus"].as_integer()
    op.get_bind().execute(sa.update(jobs).where(said.is_not(None)).values(gpus=said))


def downgrade() -> None:
    op.drop_index("ix_taken_slots_worker", table_name="taken_slots")
    op.drop_table("taken_slots")
    op.drop_index("ix_slots_gpu", table_name="slots")
    op.drop_table("slots")
    op.drop_table("workers")
    op.drop_index("ix_jobs_running", table_name="jobs")
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    for name in NEW_COLUMNS:
        op.drop_column("jobs", name)
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["queue", "priority", "created_at"],
        unique=False,
        postgresql_where=QUEUED,
        sqlite_where=QUEUED,
    )
