"""Idempotency keys: the same key and body within a day are given the first answer again."""

from sqlalchemy import delete, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.errors import IdempotencyBusy, IdempotencyMismatch
from service.store.tables import IdempotencyKey

DAY_SECONDS = 24 * 3600


def earlier(session: Session, owner: str, key: str, body_sha256: str, seconds: float = DAY_SECONDS) -> str | None:
    """The id of the job that this key made within so long. Raises IdempotencyMismatch when the body was another."""
    found = session.execute(
        select(IdempotencyKey.body_sha256, IdempotencyKey.job_id).where(
            IdempotencyKey.owner == owner,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at > now() - seconds,
        )
    ).one_or_none()
    if found is None:
        return None
    if found.body_sha256 != body_sha256:
        raise IdempotencyMismatch("This Idempotency-Key was used for another body; use a new key for a new job.")
    return str(found.job_id)


def remember(
    session: Session,
    owner: str,
    key: str,
    body_sha256: str,
    job_id: str,
    seconds: float = DAY_SECONDS,
    wait_seconds: float = 3,
) -> None:
    """Keeps the answer, in the transaction that makes it; one that is older than `seconds` gives way to it.

    Raises IdempotencyBusy when another request holds the same key at this moment; the caller's transaction is then over.
    """
    if session.get_bind().dialect.name == "postgresql":
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


def _is_a_race(error: DBAPIError) -> bool:
    """Another transaction holds or has just committed the key: a broken primary key, or PostgreSQL's lock timeout (55P03)."""
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) == "55P03"
