"""Keys: `fb_`, an id that may be seen, `_`, and 160 random bits. Shown once; what is kept is the SHA-256.

Which row a key is compared with is looked up by its id, and the comparison takes as long for any other.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.specs.scopes import Scope
from service.store.clock import now
from service.store.errors import NotFound
from service.store.tables import ApiKey

PREFIX = "fb_"
USE_SECONDS = 60.0  # the last use is written at most so often

_A_KEY = re.compile(rf"{PREFIX}([a-z2-7]{{8}})_[a-z2-7]{{32}}")


@dataclass(frozen=True)
class Known:
    """A key that was asked with. `why_not` is a sentence where it opens nothing any more."""

    id: str
    owner: str
    scopes: frozenset[Scope]
    why_not: str | None


def create(
    session: Session, owner: str, scopes: Collection[Scope], name: str | None = None, seconds: float | None = None
) -> tuple[ApiKey, str]:
    """A new key, and what it is: nobody can be told again. `seconds`: until it expires."""
    visible, hidden = _random_text(5), _random_text(20)
    key = f"{PREFIX}{visible}_{hidden}"
    at = session.scalar(select(now())) or 0.0
    row = ApiKey(
        id=f"key-{visible}",
        sha256=_sha256(key),
        owner=owner,
        scopes=[str(scope) for scope in Scope if scope in scopes],
        name=name,
        created_at=at,
        expires_at=None if seconds is None else at + seconds,
    )
    session.add(row)
    session.flush()
    return row, key


def find(session: Session, given: str) -> Known | None:
    """The key that was sent, where there is or was one. Notes that it was used, about once a minute, where the session may."""
    matched = _A_KEY.fullmatch(given)
    if matched is None:
        return None
    found = session.execute(select(ApiKey, now()).where(ApiKey.id == f"key-{matched[1]}")).one_or_none()
    if found is None or not secrets.compare_digest(_sha256(given), found[0].sha256):
        return None
    return known(*found)


def known(row: ApiKey, at: float) -> Known:
    """What a key is good for at a time of the database's."""
    return Known(row.id, row.owner, frozenset(map(Scope, row.scopes)), _why_not(row, at))


def is_use_due(session: Session, key_id: str) -> bool:
    """Whether its last use was written so long ago that this one is to be."""
    long_ago = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < now() - USE_SECONDS)
    return session.scalar(select(ApiKey.id).where(ApiKey.id == key_id, long_ago)) is not None


def note_use(session: Session, key_id: str) -> None:
    session.execute(
        update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now()).execution_options(synchronize_session=False)
    )


def are_there(session: Session) -> bool:
    """Whether a key was ever made, also one that is revoked: a door that was closed stays so."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def listing(session: Session, owner: str | None = None) -> Sequence[ApiKey]:
    """The newest first."""
    wanted = select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id)
    return session.scalars(wanted if owner is None else wanted.where(ApiKey.owner == owner)).all()


def revoke(session: Session, key_id: str) -> ApiKey:
    """For good. A second time changes nothing. Raises NotFound."""
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id).with_for_update())
    if row is None:
        raise NotFound("key", key_id)
    if row.revoked_at is None:
        row.revoked_at = session.scalar(select(now()))
        session.flush()
    return row


def _why_not(row: ApiKey, at: float) -> str | None:
    if row.revoked_at is not None:
        return "This key was revoked."
    if row.expires_at is not None and row.expires_at <= at:
        return "This key has expired."
    return None


def _random_text(n_bytes: int) -> str:
    """Five bytes are eight characters."""
    return base64.b32encode(secrets.token_bytes(n_bytes)).decode().lower()


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
