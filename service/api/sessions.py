"""Signing in with a browser: a key for a cookie, which scripts cannot read and other sites cannot use."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy.orm import Session

from service.api import access, browsers
from service.api.access import COOKIE, Caller
from service.api.acting import Acting, TheActing, trace_of
from service.api.collaborators import TheDatabase, TheSettings
from service.api.errors import Unauthorized
from service.api.problems import declared
from service.api.views import iso
from service.settings import Settings
from service.specs.scopes import Scope
from service.store import sessions

router = APIRouter(tags=["keys"])


class SignIn(BaseModel):
    """A key that is to be exchanged."""

    model_config = ConfigDict(extra="forbid")

    key: SecretStr = Field(min_length=1, max_length=1000, description="Of POST /keys, or the operator's.")


class SessionView(BaseModel):
    """Who the browser is, as far as it said."""

    signed_in: bool
    needs_key: bool = Field(description="Whether it has to sign in before anything is shown.")
    owner: str | None
    scopes: list[Scope]
    expires_at: str | None = Field(description="When it has to sign in again; told where it signs in.")


async def _own_page(request: Request) -> None:
    browsers.refuse_all_but_own_page(request)


async def _of_key(request: Request, wanted: SignIn) -> Caller:
    return await access.of_key(request, wanted.key.get_secret_value())


async def _of_cookie(request: Request) -> None:
    request.state.caller = await access.of_cookie(request, request.cookies.get(COOKIE, ""))


OWN_PAGE = Depends(_own_page)


@router.post("/session", status_code=201, responses=declared(400, 401, 403, 413, 422), dependencies=[OWN_PAGE])
def sign_in(
    request: Request,
    response: Response,
    caller: Annotated[Caller, Depends(_of_key)],
    database: TheDatabase,
    settings: TheSettings,
) -> SessionView:
    """Exchanges a key for a cookie that does what the key may, until it expires or the key does. Asked by the service's own page
    alone: with the header X-Finebits-Page, and from no other site."""
    request.state.caller = caller
    with Acting(database, trace_of(request)).transaction() as session:
        _end(session, request)
        token, expires_at = _begin(session, caller, settings)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(settings.session_hours * 3600),
        httponly=True,
        samesite="strict",
        secure=_is_encrypted(request),
    )
    return _view(caller, expires_at)


@router.get("/session")
async def get_session(request: Request) -> SessionView:
    """Who the browser is signed in as, or whether it has to."""
    if await access.is_open(request):
        return SessionView(
            signed_in=False, needs_key=False, owner=access.LOCAL, scopes=sorted(access.ANYONE.scopes), expires_at=None
        )
    try:
        caller = await access.of_cookie(request, request.cookies.get(COOKIE, ""))
    except Unauthorized:
        return SessionView(signed_in=False, needs_key=True, owner=None, scopes=[], expires_at=None)
    return _view(caller, None)


@router.delete("/session", status_code=204, responses=declared(401, 403), dependencies=[OWN_PAGE, Depends(_of_cookie)])
def sign_out(request: Request, response: Response, acting: TheActing) -> None:
    """Ends the session: the cookie opens nothing any more, wherever it is."""
    with acting.transaction() as session:
        _end(session, request)
    request.app.state.keyring.forget()
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_is_encrypted(request))


def _view(caller: Caller, expires_at: float | None) -> SessionView:
    expires = None if expires_at is None else iso(expires_at)
    return SessionView(signed_in=True, needs_key=True, owner=caller.owner, scopes=sorted(caller.scopes), expires_at=expires)


def _begin(session: Session, caller: Caller, settings: Settings) -> tuple[str, float]:
    seconds = settings.session_hours * 3600
    if caller is not access.OPERATOR:
        return sessions.begin(session, caller.key, None, seconds)
    operator_key = None if settings.api_key is None else settings.api_key.get_secret_value()
    return sessions.begin(session, None, operator_key, seconds)


def _end(session: Session, request: Request) -> None:
    if token := request.cookies.get(COOKIE):
        sessions.end(session, token)


def _is_encrypted(request: Request) -> bool:
    """As the browser has it: a proxy may have taken the encryption off."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
