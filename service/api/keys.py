"""Keys: made, listed, revoked. What a key is stands in one answer only, the one that made it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.acting import TheActing, TheDoing
from service.api.bodies import keys_come_once
from service.api.collaborators import TheDatabase
from service.api.problems import declared
from service.api.views import iso, iso_or_none
from service.specs.scopes import Scope
from service.store import keys
from service.store.owners import NAME
from service.store.tables import ApiKey

router = APIRouter(tags=["keys"])


class NewKey(BaseModel):
    """A key that is to be made."""

    model_config = ConfigDict(extra="forbid")

    owner: str = Field(pattern=f"^(?:{NAME.pattern})$", description="Whose what it makes is: letters, digits, dots, dashes.")
    scopes: list[Scope] = Field(default=[Scope.READ, Scope.SUBMIT], min_length=1, description="What it is for.")
    name: str | None = Field(default=None, min_length=1, max_length=200, description="What people call it.")
    expires_in_days: float | None = Field(default=None, gt=0, le=36_500, description="When not given, it does not expire.")


class KeyView(BaseModel):
    id: str = Field(description="It stands in the key, too, and may be seen.")
    owner: str
    scopes: list[Scope]
    name: str | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None = Field(description="To the minute.")
    revoked_at: str | None


class ShownKey(KeyView):
    """The only answer that has the key itself."""

    key: str


class KeyList(BaseModel):
    data: list[KeyView]


@router.post("/keys", status_code=201, responses=declared(400, 409, 413, 422), dependencies=[Depends(keys_come_once)])
def create_key(wanted: NewKey, request: Request, acting: TheDoing) -> ShownKey:
    """Makes a key and shows it: it is kept as a hash, and nobody can be told it again."""
    seconds = None if wanted.expires_in_days is None else wanted.expires_in_days * 86_400
    with acting.transaction() as session:
        row, key = keys.create(session, wanted.owner, wanted.scopes, wanted.name, seconds)
        acting.subject = row.id
        shown = acting.answer(ShownKey(**_values(row), key=key), is_secret=True)
    request.app.state.keyring.forget()
    return shown


@router.get("/keys", responses=declared(422))
def list_keys(database: TheDatabase, owner: Annotated[str | None, Query(description="Only this one's.")] = None) -> KeyList:
    """Every key, the newest first, those that are revoked among them."""
    with database.reading() as session:
        return KeyList(data=[KeyView(**_values(row)) for row in keys.listing(session, owner)])


@router.delete("/keys/{key_id}", responses=declared(404))
def revoke_key(key_id: str, request: Request, acting: TheActing) -> KeyView:
    """Revokes a key for good. Another process of the API may let it in for three seconds more."""
    with acting.transaction() as session:
        row = keys.revoke(session, key_id)
    request.app.state.keyring.forget()
    return KeyView(**_values(row))


def _values(row: ApiKey) -> dict[str, Any]:
    return {
        "id": row.id,
        "owner": row.owner,
        "scopes": row.scopes,
        "name": row.name,
        "created_at": iso(row.created_at),
        "expires_at": iso_or_none(row.expires_at),
        "last_used_at": iso_or_none(row.last_used_at),
        "revoked_at": iso_or_none(row.revoked_at),
    }
