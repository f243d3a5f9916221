"""Sessions: browsers that were signed in with a key, for a bounded time. What a cookie says is random, and kept as its SHA-256.

A session is no better than its key: it ends with it, and may what the key may.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.store import keys
from service.store.clock import now
from service.store.keys import Known
from service.store.tables import ApiKey, BrowserSession


@dataclass(frozen=True)
class SignedIn:
    """A session that has not run out. `key` is None where it is the operator's."""

    key: Known | None
    proof: str | None
    expires_at: float

    def is_proven_by(self, token: str, operator_key: str | None) -> bool:
        """Whether the operator's key is still the one that it was signed in with."""
        return operator_key is not None and hmac.compare_digest(self.proof or "", _proof(token, operator_key))


def begin(session: Session, key_id: str | None, operator_key: str | None, seconds: float) -> tuple[str, float]:
    """What the cookie is to say, and when the session runs out. Those that have run out are forgotten."""
    token = secrets.token_urlsafe(32)
    at = session.scalar(select(now())) or 0.0
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at <= at))
    proof = None if key_id is not None or operator_key is None else _proof(token, operator_key)
    row = BrowserSession(sha256=_sha256(token), key_id=key_id, proof=proof, created_at=at, expires_at=at + seconds)
    session.add(row)
    session.flush()
    return token, row.expires_at


def find(session: Session, token: str) -> SignedIn | None:
    wanted = (
        select(BrowserSession, ApiKey, now())
        .outerjoin(ApiKey, ApiKey.id == BrowserSession.key_id)
        .where(BrowserSession.sha256 == _sha256(token), BrowserSession.expires_at > now())
    )
    found = session.execute(wanted).one_or_none()
    if found is None:
        return None
    row, key, at = found
    return SignedIn(None if key is None else keys.known(key, at), row.proof, row.expires_at)


def end(session: Session, token: str) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.sha256 == _sha256(token)))


def _proof(token: str, operator_key: str) -> str:
    """Under the token, which the database does not have: whoever reads it cannot try the operator's key on this."""
    return hmac.digest(token.encode(), operator_key.encode(), "sha256").hex()


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
