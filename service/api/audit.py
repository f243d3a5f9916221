"""The audit log, to read: what was done, of which nothing changes what stands there, and what was refused."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.api.views import iso
from service.store import audit, refusals
from service.store.tables import AuditEntry, RefusedEntry

router = APIRouter(tags=["keys"])


class AuditView(BaseModel):
    id: int
    at: str
    owner: str = Field(description="Of the key.")
    key: str = Field(description="The key's id; operator for FINEBITS_API_KEY, open where the door is, command for the CLI.")
    action: str = Field(description="The operation, by its id in this document.")
    subject: str = Field(description="What it was done to.")
    client: str = Field(description="The address that the request came from.")
    request_id: str


class AuditPage(BaseModel):
    data: list[AuditView]
    has_more: bool
    next_after: int | None = Field(description="`after` of the next page; null where there is none.")


@router.get("/audit", responses=declared(422))
def list_audit(
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, lt=2**63, description="The last entry of the page before.")] = None,
    owner: Annotated[str | None, Query(description="Only what this one's keys did.")] = None,
) -> AuditPage:
    """Every change that was made by a request, newest first. A request that was refused changed nothing: GET /audit/refusals."""
    with database.reading() as session:
        found, has_more = audit.page(session, limit, after, owner)
    return AuditPage(data=list(map(_view, found)), has_more=has_more, next_after=found[-1].id if has_more else None)


class RefusalView(BaseModel):
    """Requests of one day that were alike and were refused alike."""

    id: int
    first_at: str
    last_at: str
    times: int
    owner: str = Field(description="Of the key; empty where it is none of the service's.")
    key: str = Field(description="The key's id; of one that was revoked or has expired, too.")
    action: str = Field(description="The operation that was asked for, by its id in this document.")
    client: str = Field(description="The address; empty where they came from more than are told apart.")
    status: int
    code: str = Field(description="Of the problem that it was answered with.")
    subject: str = Field(description="What it would have been done to, of the last.")
    request_id: str = Field(description="Of the last.")


class RefusalPage(BaseModel):
    data: list[RefusalView]
    has_more: bool
    next_after: int | None = Field(description="`after` of the next page; null where there is none.")


@router.get("/audit/refusals", responses=declared(422))
def list_refusals(
    database: TheDatabase,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, lt=2**63, description="The last entry of the page before.")] = None,
    owner: Annotated[str | None, Query(description="Only what this one's keys were refused; empty: nobody's.")] = None,
) -> RefusalPage:
    """Who was refused what in the last 90 days: whoever had no right to, and every change that was not made.

    All that are alike on one day are one entry, the newest first by when it began. They are written within a second or two.
    """
    with database.reading() as session:
        found, has_more = refusals.page(session, limit, after, owner)
    data = [_refusal_view(entry) for entry in found]
    return RefusalPage(data=data, has_more=has_more, next_after=found[-1].id if has_more else None)


def _refusal_view(entry: RefusedEntry) -> RefusalView:
    same = ("id", "times", "owner", "key", "action", "client", "status", "code", "subject", "request_id")
    return RefusalView(first_at=iso(entry.first_at), last_at=iso(entry.last_at), **{name: getattr(entry, name) for name in same})


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.id,
        at=iso(entry.at),
        owner=entry.owner,
        key=entry.key,
        action=entry.action,
        subject=entry.subject,
        client=entry.client,
        request_id=entry.request_id,
    )
