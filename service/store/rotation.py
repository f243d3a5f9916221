"""Everything that is encrypted, sealed anew with the newest key."""

from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from sqlalchemy import inspect, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.store.sealed import is_by_the_first, opened, seal
from service.store.tables import IdempotencyKey, JobTokens, Webhook

# Every column that holds something sealed. A test holds the list against the tables.
SEALED: tuple[InstrumentedAttribute[Any], ...] = (
    IdempotencyKey.sealed,
    JobTokens.sealed,
    Webhook.sealed,
    Webhook.sealed_before,
    Webhook.sealed_url,
)


@dataclass
class Rotated:
    """How many secrets there are, how many were sealed anew, and how many no key opens."""

    found: int = 0
    sealed_anew: int = 0
    unopened: int = 0


def rotate(session: Session, key: SecretStr) -> Rotated:
    """All in the caller's transaction: a rotation that is killed has changed nothing, and is begun again.

    What no key opens stays as it is. Whoever writes meanwhile with all the keys writes what either can read.
    """
    told = Rotated()
    for column in SEALED:
        _rotate(session, column, key, told)
    return told


def _rotate(session: Session, column: InstrumentedAttribute[Any], key: SecretStr, told: Rotated) -> None:
    table = column.class_
    identity = inspect(table).primary_key
    rows = session.execute(select(*identity, column).where(column.is_not(None)).with_for_update()).all()
    for *values, sealed in rows:
        told.found += 1
        if is_by_the_first(sealed, key):
            continue
        text = opened(sealed, key)
        if text is None:
            told.unopened += 1
            continue
        is_it = (name == value for name, value in zip(identity, values, strict=True))
        changed = update(table).where(*is_it).values({column: seal(text, key)})
        session.execute(changed.execution_options(synchronize_session=False))
        told.sealed_anew += 1
