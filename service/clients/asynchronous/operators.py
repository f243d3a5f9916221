"""What operators ask: workers, keys, owners, the audit log, webhooks, and how the service is."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2

from service.clients.answers import (
    AuditEntry,
    Delivery,
    Key,
    Measure,
    NewWebhook,
    Overview,
    Owner,
    Refusal,
    ShownKey,
    Webhook,
    Worker,
)
from service.clients.asynchronous.connection import AsyncConnection
from service.clients.requests import path


class AsyncOperators(AsyncConnection):
    """What can be asked of the service itself."""

    async def overview(self) -> Overview:
        """The service at a glance: what waits and runs, how what ended lately has ended, and what the workers have."""
        return await self._get(Overview, "/overview")

    async def workers(self) -> list[Worker]:
        """All that have reported: status, slots, what runs, last heartbeat."""
        return await self._all(Worker, "/workers")

    async def worker(self, name: str) -> Worker:
        return await self._get(Worker, path("workers", name))

    async def drain(self, name: str, now: bool = False) -> Worker:
        """The worker takes no new jobs; with `now` those that run save a checkpoint and go on elsewhere."""
        params = {"now": "true"} if now else {}
        return await self._post(Worker, path("workers", name, "drain"), params=params)

    async def undrain(self, name: str) -> Worker:
        return await self._post(Worker, path("workers", name, "undrain"))

    async def create_key(
        self, owner: str, scopes: list[str] | None = None, name: str | None = None, expires_in_days: float | None = None
    ) -> ShownKey:
        """A key, which is told this once. `scopes`: read and submit, where nothing is said."""
        wanted = {"owner": owner, "scopes": scopes, "name": name, "expires_in_days": expires_in_days}
        return await self._post(ShownKey, "/keys", {key: value for key, value in wanted.items() if value is not None})

    async def keys(self, owner: str | None = None) -> list[Key]:
        """Every key, the newest first, those that are revoked among them."""
        return await self._all(Key, "/keys", owner=owner)

    async def revoke_key(self, key_id: str) -> Key:
        return await self._ask(Key, "DELETE", path("keys", key_id), again=True)

    async def owners(self) -> list[Owner]:
        """Everybody, with what they may use and what they use."""
        return await self._all(Owner, "/owners")

    async def owner(self, name: str) -> Owner:
        return await self._get(Owner, path("owners", name))

    async def change_owner(self, name: str, quota: dict[str, Any]) -> Owner:
        """Another quota; what is not named stays, and null is the service's own."""
        return await self._ask(Owner, "PATCH", path("owners", name), json=quota)

    def audit(self, owner: str | None = None, page_size: int = 100) -> AsyncIterator[AuditEntry]:
        """Who changed what, when and from where, the newest first; page after page."""
        return self._listing(AuditEntry, "/audit", owner=owner, limit=page_size)

    def refusals(self, owner: str | None = None, page_size: int = 100) -> AsyncIterator[Refusal]:
        """Who was refused what, the newest first; page after page."""
        return self._listing(Refusal, "/audit/refusals", owner=owner, limit=page_size)

    async def create_webhook(self, url: str, events: list[str], description: str | None = None) -> NewWebhook:
        """Has events posted to a URL from now on. Its secret is told this once."""
        wanted: dict[str, Any] = {"url": url, "events": events}
        return await self._post(NewWebhook, "/webhooks", wanted | ({"description": description} if description else {}))

    async def webhooks(self) -> list[Webhook]:
        return await self._all(Webhook, "/webhooks")

    async def webhook(self, webhook_id: str) -> Webhook:
        return await self._get(Webhook, path("webhooks", webhook_id))

    async def change_webhook(self, webhook_id: str, changes: dict[str, Any]) -> Webhook:
        """Another url, other events, a description, or `enabled`, as a merge patch."""
        return await self._ask(Webhook, "PATCH", path("webhooks", webhook_id), json=changes)

    async def delete_webhook(self, webhook_id: str) -> None:
        await self._response("DELETE", path("webhooks", webhook_id))

    async def rotate_webhook(self, webhook_id: str) -> NewWebhook:
        """Another secret, told this once. For a day the one before signs, too."""
        return await self._post(NewWebhook, path("webhooks", webhook_id, "rotate"))

    async def test_webhook(self, webhook_id: str) -> Delivery:
        """Sends it a message of the type webhook.test."""
        return await self._post(Delivery, path("webhooks", webhook_id, "test"))

    def deliveries(self, webhook_id: str, page_size: int = 50) -> AsyncIterator[Delivery]:
        """What it was told and is being told, the newest first, with every try; page after page."""
        return self._listing(Delivery, path("webhooks", webhook_id, "deliveries"), limit=page_size)

    async def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        return await self._get(Delivery, path("webhooks", webhook_id, "deliveries", delivery_id))

    async def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Sends a message again, under the same id."""
        return await self._post(Delivery, path("webhooks", webhook_id, "deliveries", delivery_id, "replay"))

    async def measures(self, in_jobs: bool | None = None) -> list[Measure]:
        """The catalogue of measures: names, units, definitions, sources. `in_jobs`: only those that a job may name."""
        return await self._all(Measure, "/measures", in_jobs=in_jobs)

    async def is_ready(self) -> bool:
        """Whether the service can take jobs now; False also where it does not answer."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False
