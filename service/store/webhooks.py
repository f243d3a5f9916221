"""Webhooks: where an owner's events are posted to, and what puts an event on its way.

`announce` writes in the transaction of what it tells: what was committed is on its way, whoever is killed then, and what was
rolled back is not. What becomes of it is in webhook_deliveries.py.
"""

import base64
import secrets
from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from service.specs.refusals import Refusal, SpecRefused
from service.specs.webhooks import Event, WebhookChanges, WebhookSpec, shown
from service.store.clock import now
from service.store.errors import NotFound, WebhookDisabled
from service.store.ids import new_id
from service.store.sealed import opened, seal
from service.store.states import State
from service.store.tables import Generation, Job, Webhook, WebhookDelivery

# How long an event is tried for.
PATIENCE_SECONDS = 24 * 3600

# How long the secret before signs too, after a rotation.
OVERLAP_SECONDS = 24 * 3600

MOST_OF_AN_OWNER = 20

OF_STATE: dict[State, Event] = {
    State.SUCCEEDED: "fine_tuning.job.succeeded",
    State.FAILED: "fine_tuning.job.failed",
    State.CANCELLED: "fine_tuning.job.cancelled",
}

TEST = "webhook.test"

# Of other events of a job, by their kind.
OF_KIND: dict[str, Event] = {"alert": "fine_tuning.job.alert", "checkpoint_saved": "fine_tuning.job.checkpoint"}


def announce_end(session: Session, job: Job) -> None:
    """That a job has come to its end. Of a text that is written for a reader nobody else is told."""
    if session.scalar(select(Generation.job_id).where(Generation.job_id == job.id)) is not None:
        return
    told = {"job": job.id, "name": job.name, "state": job.state, "reason": job.reason, "sentence": job.sentence}
    _announce(session, job.owner, OF_STATE[State(job.state)], told)


def announce_event(session: Session, owner: str, job_id: str, kind: str, message: str, data: dict[str, Any]) -> None:
    """What else happened to a job, where it is of a kind that webhooks may tell of."""
    if kind in OF_KIND:
        _announce(session, owner, OF_KIND[kind], {"job": job_id, "sentence": message, "details": data})


def create(session: Session, owner: str, spec: WebhookSpec, key: SecretStr) -> tuple[Webhook, str]:
    """The webhook, and its secret in clear, which nobody is shown again. Raises SpecRefused."""
    n_own = session.scalar(select(func.count()).select_from(Webhook).where(Webhook.owner == owner)) or 0
    if n_own >= MOST_OF_AN_OWNER:
        raise SpecRefused([Refusal((), f"There are {n_own} webhooks already, and {MOST_OF_AN_OWNER} at the most; delete one.")])
    secret = _new_secret()
    row = {"events": list(spec.events), "description": spec.description, "sealed": seal(secret, key)}
    where = {"url": shown(spec.url), "sealed_url": seal(spec.url, key)}
    made = insert(Webhook).values(id=new_id("webhook"), owner=owner, created_at=now(), **row, **where)
    return session.execute(made.returning(Webhook)).scalar_one(), secret


def get(session: Session, owner: str, webhook_id: str) -> Webhook:
    """Raises NotFound."""
    found = session.scalar(select(Webhook).where(Webhook.id == webhook_id, Webhook.owner == owner))
    if found is None:
        raise NotFound("webhook", webhook_id)
    return found


def of_owner(session: Session, owner: str) -> Sequence[Webhook]:
    """Oldest first."""
    return session.scalars(select(Webhook).where(Webhook.owner == owner).order_by(Webhook.created_at, Webhook.id)).all()


def change(session: Session, owner: str, webhook_id: str, changes: WebhookChanges, key: SecretStr) -> Webhook:
    """Raises NotFound."""
    get(session, owner, webhook_id)
    values: dict[str, Any] = changes.model_dump(include=changes.model_fields_set - {"enabled"})
    if changes.url is not None:
        values |= {"url": shown(changes.url), "sealed_url": seal(changes.url, key)}
    if values:
        session.execute(update(Webhook).where(Webhook.id == webhook_id).values(**values))
    if changes.enabled is False:
        disable(session, webhook_id, "Disabled by its owner.")
    elif changes.enabled is True:
        session.execute(update(Webhook).where(Webhook.id == webhook_id).values(disabled_at=None, disabled_why=None))
    return session.get_one(Webhook, webhook_id, populate_existing=True)


def disable(session: Session, webhook_id: str, why: str) -> None:
    """It is told nothing any more, and what waits is given up; what is being sent is not called back."""
    enabled = update(Webhook).where(Webhook.id == webhook_id, Webhook.disabled_at.is_(None))
    session.execute(enabled.values(disabled_at=now(), disabled_why=why).execution_options(synchronize_session=False))
    waiting = update(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.next_at.is_not(None))
    session.execute(waiting.values(next_at=None).execution_options(synchronize_session=False))


def rotate(session: Session, owner: str, webhook_id: str, key: SecretStr) -> tuple[Webhook, str]:
    """Another secret, shown once. The one before signs beside it for a day. Raises NotFound."""
    before = get(session, owner, webhook_id).sealed
    secret = _new_secret()
    changed = (
        update(Webhook)
        .where(Webhook.id == webhook_id)
        .values(sealed=seal(secret, key), sealed_before=before, before_until=now() + OVERLAP_SECONDS)
        .returning(Webhook)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.execute(changed).scalar_one(), secret


def delete(session: Session, owner: str, webhook_id: str) -> None:
    """With all that was told to it. Raises NotFound."""
    webhook = get(session, owner, webhook_id)
    session.execute(sql_delete(Webhook).where(Webhook.id == webhook_id).execution_options(synchronize_session=False))
    session.expunge(webhook)


def url_of(webhook: Webhook, key: SecretStr) -> str | None:
    """Where it leads, whole; None where the key does not open that."""
    return webhook.url if webhook.sealed_url is None else opened(webhook.sealed_url, key)


def secrets_of(webhook: Webhook, key: SecretStr, at: float) -> list[str] | None:
    """Those that sign at that moment, in clear; None where the key does not open the newest."""
    newest = opened(webhook.sealed, key)
    if newest is None:
        return None
    is_valid = webhook.sealed_before is not None and (webhook.before_until or 0.0) > at
    before = opened(webhook.sealed_before or "", key) if is_valid else None
    return [newest] if before is None else [newest, before]


def put_test(session: Session, owner: str, webhook_id: str) -> str:
    """Puts a message on its way that tells of nothing; gives back its id. Raises NotFound and WebhookDisabled."""
    require_enabled(get(session, owner, webhook_id))
    [delivery_id] = _put(session, [webhook_id], TEST, {"sentence": "A test: nothing happened."})
    return delivery_id


def require_enabled(webhook: Webhook) -> None:
    """Raises WebhookDisabled."""
    if webhook.disabled_at is not None:
        raise WebhookDisabled(f"The webhook is disabled, and is told nothing: {webhook.disabled_why} Enable it first.")


def _announce(session: Session, owner: str, event: Event, data: dict[str, Any]) -> None:
    listening = select(Webhook.id, Webhook.events).where(Webhook.owner == owner, Webhook.disabled_at.is_(None))
    ids = [row.id for row in session.execute(listening) if event in row.events]
    if ids:
        _put(session, ids, event, data)


def _put(session: Session, webhook_ids: Sequence[str], event: str, data: dict[str, Any]) -> list[str]:
    ids = [new_id("evt") for _ in webhook_ids]
    for delivery_id, webhook_id in zip(ids, webhook_ids, strict=True):
        told = {"id": delivery_id, "webhook_id": webhook_id, "event": event, "data": data, "tried": 0, "tries": []}
        times = {"created_at": now(), "next_at": now(), "until": now() + PATIENCE_SECONDS}
        session.execute(insert(WebhookDelivery).values(**told, **times))
    return ids


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
