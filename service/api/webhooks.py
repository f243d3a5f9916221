"""Webhooks: made, changed, tried out; and the log of what each was told."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, SecretStr

from service.api.access import Owner
from service.api.acting import TheActing, TheDoing
from service.api.bodies import Document, RawBody, no_document
from service.api.collaborators import TheDatabase, TheSettings
from service.api.problems import declared
from service.api.schema import WEBHOOK_BODY, WEBHOOK_CHANGES_BODY
from service.api.views import iso, iso_or_none
from service.settings import Settings
from service.specs.refusals import Refusal, SpecRefused
from service.specs.webhooks import WebhookChanges, WebhookSpec, literal_address, read_webhook
from service.store import webhook_deliveries, webhooks
from service.store.tables import Webhook, WebhookDelivery
from service.webhooks.addresses import networks_of, why_not

router = APIRouter(tags=["webhooks"])


class WebhookView(BaseModel):
    id: str
    url: str = Field(description="With stars for what may be a credential: values of a query, long words of a path.")
    events: list[str]
    description: str | None
    enabled: bool
    disabled_at: str | None
    disabled_why: str | None
    created_at: str
    earlier_secret_until: str | None = Field(description="Until when the secret before signs too, after a rotation.")


class NewWebhookView(WebhookView):
    secret: str = Field(description="What signs the messages. Shown this once.")


class WebhookList(BaseModel):
    data: list[WebhookView]


class TryView(BaseModel):
    at: str
    status: int | None = Field(description="Of the receiver's answer; null where there was none.")
    detail: str
    seconds: float


class DeliveryView(BaseModel):
    """A message to a webhook. `id` is what the receiver sees as webhook-id, the same at every try."""

    id: str
    event: str
    status: str = Field(description="pending, delivered, or given_up (after a day, or when the webhook was disabled).")
    data: dict[str, Any]
    created_at: str
    delivered_at: str | None
    next_at: str | None = Field(description="When it is tried next, or again where it is being tried now.")
    tries: list[TryView] = Field(description="Oldest first; of very many the first and the last.")


class DeliveryPage(BaseModel):
    data: list[DeliveryView]
    has_more: bool
    next_after: str | None = Field(description="`after` of the next page; null where there is none.")


@router.post(
    "/webhooks",
    status_code=201,
    responses=declared(400, 409, 413, 415, 422),
    openapi_extra={"requestBody": WEBHOOK_BODY},
)
def create_webhook(
    document: Document, response: Response, owner: Owner, acting: TheDoing, settings: TheSettings
) -> NewWebhookView:
    """Has events posted to a URL from now on, signed as Standard Webhooks says. The secret is in this answer and no other."""
    spec = read_webhook(WebhookSpec, document)
    key = _key(settings)
    _refuse_unreachable(spec.url, settings)
    with acting.transaction() as session:
        webhook, secret = webhooks.create(session, owner, spec, key)
        acting.subject = webhook.id
        response.headers["Location"] = f"/webhooks/{webhook.id}"
        return acting.answer(NewWebhookView(**_values(webhook), secret=secret), is_secret=True)


@router.get("/webhooks")
def list_webhooks(owner: Owner, database: TheDatabase) -> WebhookList:
    """All of them, oldest first: there are at most 20."""
    with database.reading() as session:
        return WebhookList(data=[_view(webhook) for webhook in webhooks.of_owner(session, owner)])


@router.get("/webhooks/{webhook_id}", responses=declared(404))
def get_webhook(webhook_id: str, owner: Owner, database: TheDatabase) -> WebhookView:
    """A webhook, without its secret."""
    with database.reading() as session:
        return _view(webhooks.get(session, owner, webhook_id))


@router.patch(
    "/webhooks/{webhook_id}",
    responses=declared(400, 404, 413, 415, 422),
    openapi_extra={"requestBody": WEBHOOK_CHANGES_BODY},
)
def change_webhook(webhook_id: str, document: Document, owner: Owner, acting: TheActing, settings: TheSettings) -> WebhookView:
    """Another url, other events, a description, or `enabled`, as a merge patch: what is not named stays."""
    changes = read_webhook(WebhookChanges, document)
    if changes.url is not None:
        _refuse_unreachable(changes.url, settings)
    key = _key(settings)
    with acting.transaction() as session:
        return _view(webhooks.change(session, owner, webhook_id, changes, key))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=declared(404))
def delete_webhook(webhook_id: str, owner: Owner, acting: TheActing) -> None:
    """Forgets a webhook, its log, and what was on its way to it."""
    with acting.transaction() as session:
        webhooks.delete(session, owner, webhook_id)


@router.post("/webhooks/{webhook_id}/rotate", responses=declared(400, 404, 409, 413, 422))
def rotate_webhook(webhook_id: str, raw: RawBody, owner: Owner, acting: TheDoing, settings: TheSettings) -> NewWebhookView:
    """Another secret, shown this once. For a day messages are signed with the one before, too. Takes no arguments."""
    no_document(raw)
    key = _key(settings)
    with acting.transaction() as session:
        webhook, secret = webhooks.rotate(session, owner, webhook_id, key)
        return acting.answer(NewWebhookView(**_values(webhook), secret=secret), is_secret=True)


@router.post("/webhooks/{webhook_id}/test", status_code=202, responses=declared(400, 404, 409, 413, 422))
def test_webhook(webhook_id: str, raw: RawBody, owner: Owner, acting: TheDoing) -> DeliveryView:
    """Sends a message of the type webhook.test; how it goes stands in the log. Takes no arguments."""
    no_document(raw)
    with acting.transaction() as session:
        delivery_id = webhooks.put_test(session, owner, webhook_id)
        return acting.answer(_delivery_view(webhook_deliveries.get(session, owner, webhook_id, delivery_id)))


@router.get("/webhooks/{webhook_id}/deliveries", responses=declared(404, 422))
def list_deliveries(
    webhook_id: str,
    owner: Owner,
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    after: Annotated[str | None, Query(description="The last delivery of the page before.")] = None,
) -> DeliveryPage:
    """What the webhook was told in the last 30 days and is being told, newest first, with every try."""
    with database.reading() as session:
        found, has_more = webhook_deliveries.listing(session, owner, webhook_id, limit, after)
        views = [_delivery_view(delivery) for delivery in found]
    return DeliveryPage(data=views, has_more=has_more, next_after=found[-1].id if has_more else None)


@router.get("/webhooks/{webhook_id}/deliveries/{delivery_id}", responses=declared(404))
def get_delivery(webhook_id: str, delivery_id: str, owner: Owner, database: TheDatabase) -> DeliveryView:
    """A message, with every try."""
    with database.reading() as session:
        return _delivery_view(webhook_deliveries.get(session, owner, webhook_id, delivery_id))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=declared(400, 404, 409, 413, 422)
)
def replay_delivery(webhook_id: str, delivery_id: str, raw: RawBody, owner: Owner, acting: TheDoing) -> DeliveryView:
    """Sends a message again, under the same id, for another day if need be. Takes no arguments."""
    no_document(raw)
    with acting.transaction() as session:
        return acting.answer(_delivery_view(webhook_deliveries.replay(session, owner, webhook_id, delivery_id)))


def _key(settings: Settings) -> SecretStr:
    if settings.secret_key is None:
        sentence = "This service keeps no secrets, which a webhook needs: its operator has set no FINEBITS_SECRET_KEY."
        raise SpecRefused([Refusal((), sentence)])
    return settings.secret_key


def _refuse_unreachable(url: str, settings: Settings) -> None:
    """A name is looked up when it is connected to, and only then; an address can be told at once."""
    address = literal_address(url)
    why = why_not(address, networks_of(settings.webhook_networks)) if address else None
    if why is not None:
        raise SpecRefused([Refusal(("url",), why)])


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(**_values(webhook))


def _values(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "enabled": webhook.disabled_at is None,
        "disabled_at": iso_or_none(webhook.disabled_at),
        "disabled_why": webhook.disabled_why,
        "created_at": iso(webhook.created_at),
        "earlier_secret_until": iso_or_none(webhook.before_until),
    }


def _delivery_view(delivery: WebhookDelivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        event=delivery.event,
        status="delivered" if delivery.delivered_at else "pending" if delivery.next_at else "given_up",
        data=delivery.data,
        created_at=iso(delivery.created_at),
        delivered_at=iso_or_none(delivery.delivered_at),
        next_at=iso_or_none(delivery.next_at),
        tries=[TryView(**{**one, "at": iso(one["at"])}) for one in delivery.tries],
    )
