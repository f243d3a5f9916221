"""Version 1 as its database knew it: the statements of its API and its worker, which know no column of a later migration.

    python -m tests.service.store.version_1 URL JOB ATTEMPT

is a worker of that version that holds a job, and an API beside it. It works until its standard input closes, then says as JSON
what it did, and which of its statements failed.
"""

import json
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text

WORKER = "of-version-1"
NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from clock_timestamp())::double precision",
}
COLUMNS = (
    *("id", "owner", "name", "labels", "document", "resolved", "notices", "state", "reason", "sentence", "details", "queue"),
    *("priority", "max_lost", "attempt", "worker", "lease_until", "lost", "cancel_requested_at", "bell_rung_at", "progress"),
    *("created_at", "started_at", "finished_at", "changed_at", "version", "event_count"),
)
FENCE = "id = :id AND attempt = :attempt AND worker = :worker AND state = 'running'"

CREATE = """INSERT INTO jobs (id, owner, labels, document, resolved, notices, state, queue, priority, max_lost, attempt, lost,
created_at, changed_at, version, event_count) VALUES
(:id, 'ann', '{}', :document, :resolved, '[]', 'queued', 'default', 0, 3, 0, 0, NOW, NOW, 1, 0)"""
COUNT = """UPDATE jobs SET changed_at = NOW, version = version + 1, event_count = event_count + 1 WHERE id = :id
RETURNING event_count, attempt"""
EVENT = """INSERT INTO events (job_id, number, at, attempt, kind, message, data)
VALUES (:id, :number, NOW, :attempt, :kind, :message, '{}')"""
CLAIM = f"""UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = :worker, lease_until = NOW + 60,
started_at = coalesce(started_at, NOW), finished_at = NULL, changed_at = NOW, version = version + 1
WHERE id = :id AND state IN ('queued') AND cancel_requested_at IS NULL RETURNING {", ".join(COLUMNS)}"""
ATTEMPT = "INSERT INTO attempts (job_id, number, worker, started_at) VALUES (:id, :attempt, :worker, NOW)"
CLOSE = (
    "UPDATE attempts SET finished_at = NOW, outcome = :outcome, sentence = 'It is over.' WHERE job_id = :id AND number = :attempt"
)
RENEW = f"""UPDATE jobs SET lease_until = NOW + 60, progress = :progress, changed_at = NOW, version = version + 1
WHERE {FENCE} RETURNING cancel_requested_at"""
END = f"""UPDATE jobs SET state = :outcome, reason = :reason, sentence = 'It is over.', worker = NULL, lease_until = NULL,
finished_at = NOW, changed_at = NOW, version = version + 1 WHERE {FENCE} RETURNING {", ".join(COLUMNS)}"""
GIVE_BACK = f"""UPDATE jobs SET state = 'queued', worker = NULL, lease_until = NULL, bell_rung_at = NULL, changed_at = NOW,
version = version + 1 WHERE {FENCE} RETURNING {", ".join(COLUMNS)}"""
POINT = """INSERT INTO series (job_id, step, name, global_step, value) VALUES (:id, 'sft', 'loss', :update, :value)
ON CONFLICT (job_id, step, name, global_step) DO UPDATE SET value = excluded.value"""
CHECKPOINT = """INSERT INTO checkpoints (job_id, step, global_step, attempt, path, epoch, train_loss, size, manifest, created_at)
VALUES (:id, 'sft', :update, :attempt, :path, 0.5, 1.0, 0, '{"files": []}', NOW)
ON CONFLICT (job_id, step, global_step) DO UPDATE SET attempt = excluded.attempt, path = excluded.path"""
MEASUREMENT = """INSERT INTO measurements (job_id, step, global_step, split, documents, created_at)
VALUES (:id, 'sft', :update, 'validation', '{"nll": [1.0]}', NOW)
ON CONFLICT (job_id, step, global_step, split) DO UPDATE SET documents = excluded.documents"""
METRIC = """INSERT INTO metrics (job_id, step, global_step, split, measure, value, unit, standard_error, n_documents, n_tokens,
estimator) VALUES (:id, 'sft', :update, 'validation', 'cross_entropy', :value, 'bits/token', 0.1, 5, 50, 'documents')
ON CONFLICT (job_id, step, global_step, split, measure) DO UPDATE SET value = excluded.value"""
ARTIFACT = """INSERT INTO artifacts (job_id, name, attempt, path, size, sha256, created_at)
VALUES (:id, :name, :attempt, :path, 1, :sha256, NOW) ON CONFLICT (job_id, name) DO UPDATE SET path = excluded.path"""
UNHEARD = (
    "UPDATE jobs SET bell_rung_at = NOW WHERE state = 'queued' AND queue IN ('default') AND bell_rung_at IS NULL RETURNING queue"
)
LOST = f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE state = 'running' AND lease_until < NOW LIMIT 20"
LISTING = f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE owner = 'ann' ORDER BY created_at DESC, id DESC LIMIT 11"


@dataclass
class Version1:
    """The verbs of that version's store, each a transaction."""

    engine: Engine

    def create(self, job_id: str, resolved: dict[str, Any]) -> None:
        with self._transaction() as session:
            document = json.dumps({"model": {"model_name_or_path": "tiny"}})
            self._run(session, CREATE, id=job_id, document=document, resolved=json.dumps(resolved))
            self._tell(session, job_id, "submitted")

    def claim(self, job_id: str) -> int:
        with self._transaction() as session:
            attempt = self._run(session, CLAIM, id=job_id, worker=WORKER).one().attempt
            self._run(session, ATTEMPT, id=job_id, attempt=attempt, worker=WORKER)
            self._tell(session, job_id, "started")
        return int(attempt)

    def update(self, job_id: str, attempt: int, update: int) -> None:
        """A heartbeat with what was said since; every fifth time a checkpoint, which is measured."""
        held = {"id": job_id, "attempt": attempt, "worker": WORKER}
        at = {"id": job_id, "update": update, "value": 1 / update}
        with self._transaction() as session:
            self._run(session, RENEW, **held, progress=json.dumps({"step": "sft", "global_step": update})).one()
            self._run(session, POINT, **at)
            if update % 5 == 0:
                path = f"{job_id}/{attempt}/sft/checkpoint-{update}"
                self._run(session, CHECKPOINT, id=job_id, update=update, attempt=attempt, path=path)
                self._run(session, MEASUREMENT, id=job_id, update=update)
                self._run(session, METRIC, **at)
                named = {"name": f"sft/checkpoint-{update}.bin", "path": path, "sha256": "0" * 64}
                self._run(session, ARTIFACT, id=job_id, attempt=attempt, **named)
                self._tell(session, job_id, "checkpoint_saved")

    def end(self, job_id: str, attempt: int, outcome: str) -> None:
        """succeeded, failed or released."""
        held = {"id": job_id, "attempt": attempt, "worker": WORKER}
        with self._transaction() as session:
            if outcome == "released":
                self._run(session, GIVE_BACK, **held).one()
            else:
                self._run(session, END, **held, outcome=outcome, reason="killed" if outcome == "failed" else None).one()
            self._run(session, CLOSE, id=job_id, attempt=attempt, outcome=outcome)
            self._tell(session, job_id, outcome)

    def look(self) -> None:
        with self._transaction() as session:
            for statement in (LISTING, LOST, UNHEARD):
                self._run(session, statement).all()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    def _tell(self, session: Connection, job_id: str, kind: str) -> None:
        number, attempt = self._run(session, COUNT, id=job_id).one()
        self._run(session, EVENT, id=job_id, number=number, attempt=attempt, kind=kind, message=f"{kind}.")

    def _run(self, session: Connection, statement: str, **values: Any) -> Any:
        return session.execute(text(statement.replace("NOW", NOW[self.engine.dialect.name])), values)


def opened(url: str) -> Version1:
    """As that version opened its database."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, record: Any) -> None:
            connection.isolation_level = None
            for pragma in ("busy_timeout = 30000", "foreign_keys = ON", "journal_mode = WAL", "synchronous = FULL"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return Version1(engine)


def main(url: str, held: str, attempt: int, resolved: dict[str, Any]) -> None:
    old, update, made, failures = opened(url), 0, [], []
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        update += 1
        try:
            old.update(held, attempt, update)
            old.look()
            if update % 10 == 0:  # one that goes its whole way, and one that is left waiting
                for job_id in (f"job-whole-{update}", f"job-left-{update}"):
                    old.create(job_id, resolved)
                    made.append(job_id)
                old.end(made[-2], old.claim(made[-2]), "succeeded")
        except Exception as error:
            failures.append(f"update {update}: {type(error).__name__}: {error}")
    print(json.dumps({"updates": update, "made": made, "failures": failures}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
