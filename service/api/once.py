"""A job that is made once, however often it is asked for with the same key: the job as it stands, or a refusal."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import Response
from sqlalchemy.orm import Session

from service.dispatch import Dispatch
from service.store import idempotency, jobs, steps
from service.store.errors import IdempotencyBusy
from service.store.session import Database
from service.store.tables import Job, StepResult

Answer = Callable[[Job, Sequence[StepResult]], Response]

# Of an answer that another request was given before.
REPLAYED = {"Idempotency-Replayed": "true"}


def digest(document: Any) -> str:
    """Of the document, not of the bytes: a client that writes it anew may space it otherwise."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Once:
    """A key, and what it was sent with. `seconds`: how long the first answer stands."""

    def __init__(self, owner: str, key: str, document: Any, seconds: float = idempotency.DAY_SECONDS):
        self.owner = owner
        self.key = key
        self.sha256 = digest(document)
        self.seconds = seconds

    def earlier(self, session: Session) -> Job | None:
        """The job that this key made before. Raises IdempotencyMismatch."""
        job_id = idempotency.earlier(session, self.owner, self.key, self.sha256, self.seconds)
        return jobs.get(session, self.owner, job_id) if job_id else None

    def remember(self, session: Session, job: Job) -> Job:
        idempotency.remember(session, self.owner, self.key, self.sha256, job.id, self.seconds)
        return job


def created_once(database: Database, dispatch: Dispatch, once: Once, read: Callable[[], jobs.New], answer: Answer) -> Response:
    """In a transaction of its own: it may have to wait for another request with the same key, and nobody else should."""
    with database.reading() as session:
        # before the models and data sets are looked at: the first answer stands, even if one has gone since
        if job := once.earlier(session):
            return _again(session, job, answer)
    new = read()
    try:
        return _submitted(database, dispatch, once, new, answer)
    except IdempotencyBusy:
        # another request with this key came first; by now its job is there to be found
        return _submitted(database, dispatch, once, new, answer)


def _submitted(database: Database, dispatch: Dispatch, once: Once, new: jobs.New, answer: Answer) -> Response:
    with database.transaction() as session:
        if earlier := once.earlier(session):
            return _again(session, earlier, answer)
        job = once.remember(session, jobs.create_all(session, [new])[0])
    dispatch.ring(job.queue)
    return answer(job, ())


def _again(session: Session, job: Job, answer: Answer) -> Response:
    response = answer(job, steps.of_job(session, job.id))
    response.headers.update(REPLAYED)
    return response
