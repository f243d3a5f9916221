import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, text, update

from service.store import idempotency, jobs
from service.store.errors import IdempotencyBusy, IdempotencyMismatch
from service.store.session import Database
from service.store.tables import IdempotencyKey, Job
from tests.service.store.stored import a_document, a_read_job, submit
from tests.service.store.threads import at_once

A, B = "a" * 64, "b" * 64

only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def remember(database: Database, job_id: str, owner: str = "ann", key: str = "key-1", body: str = A) -> None:
    with database.transaction() as session:
        idempotency.remember(session, owner, key, body, job_id)


def earlier(database: Database, owner: str = "ann", key: str = "key-1", body: str = A) -> str | None:
    with database.reading() as session:
        return idempotency.earlier(session, owner, key, body)


def age(database: Database, seconds: float) -> None:
    with database.transaction() as session:
        session.execute(update(IdempotencyKey).values(created_at=IdempotencyKey.created_at - seconds))


def answer(database: Database, before_commit: Callable[[], object] = lambda: None) -> str:
    """What the API does with a request that carries a key: the first answer again, or a job and its key at once."""
    with database.transaction() as session:
        known = idempotency.earlier(session, "ann", "key-1", A)
        if known is not None:
            return known
        job = jobs.create(session, "ann", a_document(), a_read_job())
        idempotency.remember(session, "ann", "key-1", A, job.id, wait_seconds=0.2)
        before_commit()
    return job.id


def insist(database: Database) -> str:
    """A request that did not look whether its key has an answer, or looked too early."""
    with database.transaction() as session:
        job = jobs.create(session, "ann", a_document(), a_read_job())
        idempotency.remember(session, "ann", "key-1", A, job.id, wait_seconds=60)
    return job.id


def count_of_jobs(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_key_that_was_never_used_has_no_answer(database: Database) -> None:
    assert earlier(database) is None


def test_the_same_key_and_body_are_given_the_first_answer(database: Database) -> None:
    job_id = submit(database)
    remember(database, job_id)
    assert earlier(database) == job_id
    assert earlier(database) == job_id


def test_the_same_key_with_another_body_is_refused(database: Database) -> None:
    remember(database, submit(database))
    with pytest.raises(IdempotencyMismatch, match="use a new key"):
        earlier(database, body=B)


def test_each_owner_has_keys_of_their_own(database: Database) -> None:
    anns, bobs = submit(database, "ann"), submit(database, "bob")
    remember(database, anns, "ann", body=A)
    assert earlier(database, "bob", body=B) is None
    remember(database, bobs, "bob", body=B)
    assert (earlier(database, "ann", body=A), earlier(database, "bob", body=B)) == (anns, bobs)


def test_a_key_is_forgotten_after_a_day(database: Database) -> None:
    remember(database, submit(database))
    age(database, idempotency.DAY_SECONDS - 60)
    assert earlier(database) is not None
    age(database, 61)
    assert earlier(database) is None
    assert earlier(database, body=B) is None


def test_a_forgotten_key_may_be_used_again(database: Database) -> None:
    remember(database, submit(database))
    age(database, idempotency.DAY_SECONDS)
    again = submit(database)
    remember(database, again, body=B)
    assert earlier(database, body=B) == again


def test_a_key_that_is_taken_is_not_taken_again_and_its_job_is_not_kept(database: Database) -> None:
    first = answer(database)
    with pytest.raises(IdempotencyBusy):
        insist(database)
    assert (count_of_jobs(database), earlier(database)) == (1, first)


def test_requests_at_once_with_one_key_make_one_job(database: Database) -> None:
    answers = at_once(*[lambda: answer(database)] * 6)
    made = {given for given in answers if isinstance(given, str)}
    assert len(made) == 1
    assert {type(given) for given in answers} <= {str, IdempotencyBusy}
    assert count_of_jobs(database) == 1
    assert made == {earlier(database)}


def test_requests_at_once_with_a_forgotten_key_make_one_job(database: Database) -> None:
    remember(database, submit(database))
    age(database, idempotency.DAY_SECONDS)
    answers = at_once(*[lambda: answer(database)] * 6)
    assert {type(given) for given in answers} <= {str, IdempotencyBusy}
    assert count_of_jobs(database) == 2


@only_postgresql
def test_who_waits_too_long_for_a_key_is_told_that_it_is_busy(database: Database) -> None:
    held, done = threading.Event(), threading.Event()

    def first() -> str:
        return answer(database, before_commit=lambda: (held.set(), done.wait(60)))

    def second() -> str:
        held.wait(60)
        try:
            return answer(database)
        finally:
            done.set()

    made, refused = at_once(first, second)
    assert isinstance(refused, IdempotencyBusy)
    assert made == earlier(database)
    assert count_of_jobs(database) == 1


@only_postgresql
def test_who_waited_while_the_key_was_taken_is_told_that_it_is_busy(database: Database) -> None:
    held = threading.Event()

    def first() -> str:
        return answer(database, before_commit=lambda: (held.set(), wait_until_somebody_waits(database)))

    def second() -> str:
        held.wait(60)
        return insist(database)

    made, refused = at_once(first, second)
    assert isinstance(refused, IdempotencyBusy)
    assert (count_of_jobs(database), earlier(database)) == (1, made)


def wait_until_somebody_waits(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with database.reading() as session:
            if session.execute(waiting).scalar_one():
                return
        threading.Event().wait(0.005)
    raise AssertionError("Nobody came to wait for the key.")


@only_postgresql
def test_the_patience_for_a_key_ends_with_its_transaction(database: Database) -> None:
    answer(database)
    with database.reading() as session:
        assert session.execute(text("SHOW lock_timeout")).scalar_one() == "0"


def test_deleting_a_job_frees_its_key(database: Database) -> None:
    remember(database, submit(database))
    with database.transaction() as session:
        session.execute(text("DELETE FROM jobs"))
    assert earlier(database) is None
