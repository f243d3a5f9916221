"""Owners: what each has, and may have."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.access import TheCaller
from service.api.acting import TheActing
from service.api.bodies import keys_come_once
from service.api.collaborators import TheDatabase, TheSettings
from service.api.errors import BadParameter, NoSuchThing
from service.api.problems import declared
from service.specs.quota import Quota
from service.store import quotas
from service.store.owners import EVERYBODY, NAME

router = APIRouter(tags=["keys"])


class UsageView(BaseModel):
    """What counts against the quota now."""

    queued: int
    running: int
    gpu_hours: float = Field(description="Used in this calendar month, UTC.")
    gpu_hours_held: float = Field(description="What the jobs that run may use besides: max_seconds, or an hour.")


class OwnerView(BaseModel):
    owner: str
    quota: Quota = Field(description="With the settings' for what was not set; null: any.")
    usage: UsageView


class OwnerList(BaseModel):
    data: list[OwnerView]


@router.get("/owners")
def list_owners(database: TheDatabase, settings: TheSettings) -> OwnerList:
    """Everybody who has jobs, or had a quota set."""
    with database.reading() as session:
        return OwnerList(data=[_view(session, owner, settings.quota) for owner in quotas.owners(session)])


@router.get("/owners/{owner}", responses=declared(404))
def get_owner(owner: str, caller: TheCaller, database: TheDatabase, settings: TheSettings) -> OwnerView:
    """What an owner has and may have: its own key may ask, and an admin's."""
    if caller.sees not in (owner, EVERYBODY):
        raise NoSuchThing(f"There is no owner {owner!r}.")
    with database.reading() as session:
        return _view(session, owner, settings.quota)


@router.patch("/owners/{owner}", responses=declared(400, 413, 422), dependencies=[Depends(keys_come_once)])
def change_owner(owner: str, wanted: Quota, acting: TheActing, settings: TheSettings) -> OwnerView:
    """Sets quotas, as a merge patch: what is not named stays, and what is null is as the settings say."""
    if NAME.fullmatch(owner) is None:
        raise BadParameter("/path/owner", f"{owner!r} is not the name of an owner: letters, digits, dots and dashes.")
    with acting.transaction() as session:
        quotas.lock(session, owner)
        quota = quotas.own(session, owner).model_copy(update=wanted.model_dump(exclude_unset=True))
        quotas.set_to(session, owner, quota)
        return _view(session, owner, settings.quota)


def _view(session: Session, owner: str, default: Quota) -> OwnerView:
    return OwnerView(
        owner=owner,
        quota=quotas.of_owner(session, owner, default),
        usage=UsageView(**vars(quotas.usage(session, owner))),
    )
