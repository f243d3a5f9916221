"""Events on their way to webhooks: who tries the next one, how it went, and what is tried again.

A try is a lease: whoever takes a delivery puts off its next try beyond the time that a try may last. One that is killed
meanwhile has lost nothing; one that took longer finds that `tried` has moved on, and writes nothing. So a receiver may be told
twice, with the same id, and never not at all.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from service.store import webhooks
from service.store.clock import moment, now
from service.store.errors import BadCursor, NotFound
from service.store.tables import Webhook, WebhookDelivery

# Longer than a try may last, the look-up of a name included.
TRY_SECONDS = 120.0

FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 2 * 3600.0

# The log keeps the first tries and the last: a day's worth is about twenty.
MOST_TRIES = 40

KEPT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Due:
    """A try that is to be made now."""

    id: str
    tried: int  # this one included
    event: str
    data: dict[str, Any]
    created_at: float
    webhook: Webhook
    at: float  # the moment, by the database's clock


@dataclass(frozen=True)
class Went:
    """How a try went. `status` is None where there was no answer."""

    status: int | None
    detail: str
    seconds: float
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver wants no more of it, ever (RFC 9110, section 15.5.11)."""
        return self.status == 410


def is_due(session: Session, busy: Collection[str] = ()) -> bool:
    """Whether there is something to try, but for webhooks that are being told something. Changes nothing."""
    return session.scalar(_due(busy).limit(1)) is not None


def take(session: Session, busy: Collection[str] = ()) -> Due | None:
    """The try that has waited longest, but for webhooks that are being told something; it is the caller's for TRY_SECONDS."""
    taken = session.scalar(_due(busy).limit(1).with_for_update(skip_locked=True, of=WebhookDelivery))
    if taken is None:
        return None
    changed = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == taken)
        .values(tried=WebhookDelivery.tried + 1, next_at=now() + TRY_SECONDS)
        .returning(WebhookDelivery, now().label("at"))
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    delivery, at = session.execute(changed).one()
    webhook = session.get_one(Webhook, delivery.webhook_id)
    return Due(delivery.id, delivery.tried, delivery.event, delivery.data, delivery.created_at, webhook, at)


def write(session: Session, due: Due, went: Went) -> bool:
    """How it went, and when it is tried again. False where somebody else has tried since, or the webhook is gone."""
    mine = (WebhookDelivery.id == due.id, WebhookDelivery.tried == due.tried)
    delivery = session.scalar(select(WebhookDelivery).where(*mine).with_for_update().execution_options(populate_existing=True))
    if delivery is None:
        return False
    at = float(session.execute(select(now())).scalar_one())
    told = {"at": at, "status": went.status, "detail": went.detail, "seconds": round(went.seconds, 3)}
    values: dict[str, Any] = {"tries": _shortened([*delivery.tries, told]), "next_at": None}
    if went.delivered:
        values["delivered_at"] = at
    elif not went.gone and delivery.next_at is not None:  # None: it was disabled meanwhile
        next_at = at + wait_before(due.tried, went.retry_after)
        values["next_at"] = next_at if next_at < delivery.until else None
    session.execute(update(WebhookDelivery).where(*mine).values(**values).execution_options(synchronize_session=False))
    if went.gone:
        webhooks.disable(session, due.webhook.id, "Its receiver answered 410: it wants to be told nothing more.")
    return True


def wait_before(tried: int, retry_after: float | None = None) -> float:
    """Seconds after that many tries: doubled each time, shortened at random by up to a half so that many do not come at once."""
    doubled = FIRST_WAIT_SECONDS * 2.0 ** min(tried - 1, 30)
    wait = min(doubled, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)
    return max(wait, min(retry_after or 0.0, LONGEST_WAIT_SECONDS))


def listing(
    session: Session, owner: str, webhook_id: str, limit: int, after: str | None = None
) -> tuple[list[WebhookDelivery], bool]:
    """A page of what a webhook was and is told, newest first, behind `after`; and whether there is more. Raises NotFound."""
    webhooks.get(session, owner, webhook_id)
    wanted = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    order = (WebhookDelivery.created_at, WebhookDelivery.id)
    if after is not None:
        where = (WebhookDelivery.id == after, WebhookDelivery.webhook_id == webhook_id)
        place = session.execute(select(*order).where(*where)).one_or_none()
        if place is None:
            raise BadCursor(f"after={after!r} is not a delivery of this list.")
        wanted = wanted.where(tuple_(*order) < tuple_(*place))
    found = session.scalars(wanted.order_by(*(column.desc() for column in order)).limit(limit + 1)).all()
    return list(found[:limit]), len(found) > limit


def get(session: Session, owner: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Raises NotFound."""
    webhooks.get(session, owner, webhook_id)
    where = (WebhookDelivery.id == delivery_id, WebhookDelivery.webhook_id == webhook_id)
    found = session.scalar(select(WebhookDelivery).where(*where))
    if found is None:
        raise NotFound("delivery", delivery_id)
    return found


def replay(session: Session, owner: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Sends it again from now on, under the same id and whether it had come or not. Raises NotFound and WebhookDisabled."""
    webhooks.require_enabled(webhooks.get(session, owner, webhook_id))
    get(session, owner, webhook_id, delivery_id)
    changed = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id)
        # `tried` moves on: whoever tries it at this moment must not write that it is over
        .values(tried=WebhookDelivery.tried + 1, next_at=now(), until=now() + webhooks.PATIENCE_SECONDS, delivered_at=None)
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.execute(changed).scalar_one()


def forget(session: Session, older_than_seconds: float = KEPT_SECONDS, limit: int = 1000) -> int:
    """Removes what is long over from the log, and answers how much."""
    old = select(WebhookDelivery.id).where(
        WebhookDelivery.created_at < moment() - older_than_seconds, WebhookDelivery.next_at.is_(None)
    )
    gone = delete(WebhookDelivery).where(WebhookDelivery.id.in_(old.limit(limit).scalar_subquery()))
    return len(session.scalars(gone.returning(WebhookDelivery.id).execution_options(synchronize_session=False)).all())


def n_waiting(session: Session) -> int:
    """How many are on their way, tried or not."""
    return session.scalar(select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.next_at.is_not(None))) or 0


def _due(busy: Collection[str]) -> Select[str]:
    due = select(WebhookDelivery.id).where(WebhookDelivery.next_at <= moment())
    if busy:
        due = due.where(WebhookDelivery.webhook_id.not_in(busy))
    return due.order_by(WebhookDelivery.next_at)


def _shortened(tries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*tries] if len(tries) <= MOST_TRIES else [*tries[:5], *tries[5 - MOST_TRIES :]]
