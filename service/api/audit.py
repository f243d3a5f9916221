"""The audit log, to read. Nothing changes what stands in it."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.api.views import iso
from service.store import audit
from service.store.tables import AuditEntry

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
    """Every change that was made by a request, newest first. A request that was refused changed nothing, and is not here."""
    with database.reading() as session:
        found, has_more = audit.page(session, limit, after, owner)
    return AuditPage(data=list(map(_view, found)), has_more=has_more, next_after=found[-1].id if has_more else None)


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
