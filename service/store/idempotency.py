"""Idempotency keys: the same key and request within a day are answered as the first was.

A key that made a job stands for the job. Any other is claimed in the transaction that does what is asked, before it is done, and
the answer is kept in the same commit: whoever comes meanwhile waits for it, and nothing is done twice or without its answer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from service.store.clock import moment, now
from service.store.errors import IdempotencyBusy, IdempotencyMismatch
from service.store.tables import IdempotencyKey

DAY_SECONDS = 24 * 3600


class Kept(NamedTuple):
    """What there is of the first answer: as it is, or sealed; neither where it was secret and no secrets are kept."""

    subject: str
    answer: dict[str, Any] | None
    sealed: str | None


def earlier(session: Session, owner: str, key: str, body_sha256: str, seconds: float = DAY_SECONDS) -> str | None:
    """The id of the job that this key made within so long. Raises IdempotencyMismatch when the request was another."""
    found = _found(session, owner, key, body_sha256, seconds)
    return None if found is None else found.job_id


def answered(session: Session, owner: str, key: str, body_sha256: str, seconds: float = DAY_SECONDS) -> Kept | None:
    """The answer that this key was given within so long. Raises IdempotencyMismatch when the request was another."""
    found = _found(session, owner, key, body_sha256, seconds)
    return None if found is None else Kept(found.subject or "", found.answer, found.sealed)


def _found(session: Session, owner: str, key: str, body_sha256: str, seconds: float) -> IdempotencyKey | None:
    found = session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.owner == owner,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at > now() - seconds,
        )
    )
    if found is not None and found.body_sha256 != body_sha256:
        raise IdempotencyMismatch("This Idempotency-Key was used for another request; use a new key for a new one.")
    return found


def remember(
    session: Session,
    owner: str,
    key: str,
    body_sha256: str,
    job_id: str | None,
    seconds: float = DAY_SECONDS,
    wait_seconds: float = 3,
) -> None:
    """Takes the key, in the transaction that makes the job; one that is older than `seconds` gives way to it.

    Raises IdempotencyBusy when another request holds the same key at this moment; the caller's transaction is then over.
    """
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        session.execute(text(f"SET LOCAL lock_timeout = {round(wait_seconds * 1000)}"))
    try:
        session.execute(
            delete(IdempotencyKey)
            .where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
            .where(IdempotencyKey.created_at <= now() - seconds)
            .execution_options(synchronize_session=False)
        )
        session.execute(
            insert(IdempotencyKey).values(owner=owner, key=key, body_sha256=body_sha256, job_id=job_id, created_at=now())
        )
    except (IntegrityError, OperationalError) as error:
        if _is_a_race(error):
            raise IdempotencyBusy("A request with this Idempotency-Key is being answered; ask again in a moment.") from None
        raise
    if is_postgresql:  # the patience is for the key alone
        session.execute(text("SET LOCAL lock_timeout TO DEFAULT"))


def claim(session: Session, owner: str, key: str, body_sha256: str) -> None:
    """Takes the key before anything is done. Raises IdempotencyBusy, as `remember` does."""
    remember(session, owner, key, body_sha256, None)


def keep(session: Session, owner: str, key: str, kept: Kept) -> None:
    """The answer to a key that this transaction has claimed."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
        .values(**kept._asdict())
        .execution_options(synchronize_session=False)
    )


def forget(session: Session, limit: int = 1000) -> Sequence[str]:
    """Those whose day is over go, and what they were answered with."""
    over = select(IdempotencyKey.owner, IdempotencyKey.key).where(IdempotencyKey.created_at <= moment() - DAY_SECONDS)
    found = session.execute(over.order_by(IdempotencyKey.created_at).limit(limit).with_for_update(skip_locked=True)).all()
    for owner, key in found:
        this = delete(IdempotencyKey).where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
        session.execute(this.execution_options(synchronize_session=False))
    return [key for _, key in found]


def _is_a_race(error: DBAPIError) -> bool:
    """Another transaction holds or has just committed the key: a broken primary key, or PostgreSQL's lock timeout (55P03)."""
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) == "55P03"
