"""finebits keys: made, listed and revoked in the database itself, so that the first one can be made; and what is kept encrypted,
sealed anew."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import typer
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service import home_key
from service.cli.as_json import AsJson
from service.cli.exit_codes import ExitCode
from service.cli.lazy import app_of
from service.cli.screen import Screen, give_up
from service.cli.serving import read_settings
from service.embedded import EmbeddedError, held
from service.specs.scopes import Scope
from service.store import audit, keys, rotation, schema
from service.store.audit import Trace
from service.store.errors import NotFound
from service.store.owners import NAME
from service.store.session import Database
from service.store.tables import ApiKey

app = app_of("Make, list and revoke keys, in the database itself (FINEBITS_DATABASE_URL, or the one in FINEBITS_HOME).")

COLUMNS = ["key", "owner", "scopes", "name", "created", "expires", "last used", ""]


@app.command()
def create(
    owner: str = typer.Argument(help="Whose jobs and data sets are what it makes."),
    scope: list[Scope] = typer.Option([Scope.READ, Scope.SUBMIT], help="What it is for; may be given several times."),
    name: str | None = typer.Option(None, help="What people call it."),
    expires_in_days: float | None = typer.Option(None, min=0.001, max=36_500, help="When not given, it does not expire."),
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it this once."""
    if NAME.fullmatch(owner) is None:
        give_up(f"{owner!r} is not the name of an owner: letters, digits, dots and dashes, at most 64.", ExitCode.USAGE)
    with _transaction() as session:
        row, key = keys.create(session, owner, scope, name, None if expires_in_days is None else expires_in_days * 86_400)
        audit.note(session, [_trace("create_key", row.id)])
        key_id = row.id
    if as_json:
        Screen().json({"id": key_id, "owner": owner, "key": key})
    else:
        print(key)  # alone on its line, for a script to take


@app.command("list")
def list_keys(
    owner: str | None = typer.Option(None, help="Only this one's."),
    as_json: AsJson = False,
) -> None:
    """List all keys, the newest first; what a key is nobody can be told again."""
    with _transaction() as session:
        found = keys.listing(session, owner)
    rows = [_row(key) for key in found]
    screen = Screen()
    if as_json:
        screen.json([dict(zip(("id", *COLUMNS[1:-1], "state"), row, strict=True)) for row in rows])
    elif rows:
        screen.table("Keys", COLUMNS, rows)
    else:
        screen.say("There are no keys yet.")


@app.command()
def revoke(key_id: str = typer.Argument(help="As `finebits keys list` has it."), as_json: AsJson = False) -> None:
    """Revoke a key for good."""
    try:
        with _transaction() as session:
            keys.revoke(session, key_id)
            audit.note(session, [_trace("revoke_key", key_id)])
    except NotFound as error:
        give_up(str(error), ExitCode.REFUSED)
    if as_json:
        Screen().json({"id": key_id, "revoked": True})
        return
    Screen().say(f"{key_id} is revoked; an API that knows it lets it in for at most three seconds more.")


@app.command("rotate-secrets")
def rotate_secrets(as_json: AsJson = False) -> None:
    """Seal all that is kept encrypted anew with the newest key: the first of FINEBITS_SECRET_KEY, or a new one in FINEBITS_HOME.

    All of it or, where it is broken off, nothing: run it again then. Where the key is the folder's the service must be stopped.
    """
    settings = read_settings()
    if settings.secret_key is not None:
        told, then = _rotated(settings.secret_key), "Take the others out of FINEBITS_SECRET_KEY once no process writes with them."
    else:
        told, then = _rotated_of_home(settings.home), f"{settings.home / home_key.NAME} has a new key, and no other."
    if as_json:
        Screen().json({"found": told.found, "sealed_anew": told.sealed_anew, "unopened": told.unopened})
        return
    lost = f" {told.unopened} of them no key opens any more." if told.unopened else ""
    Screen().say(f"{told.sealed_anew} of {told.found} secrets were sealed anew.{lost} {then}")


def _rotated_of_home(home: Path) -> rotation.Rotated:
    try:
        with held(home):
            told = _rotated(home_key.with_a_newer_key(home))
            home_key.forget_older_keys(home)
            return told
    except FileNotFoundError:
        give_up(f"There is no FINEBITS_SECRET_KEY, and no {home / home_key.NAME}: nothing is kept encrypted here.")
    except EmbeddedError as error:
        give_up(str(error))


def _rotated(key: SecretStr) -> rotation.Rotated:
    with _transaction() as session:
        told = rotation.rotate(session, key)
        audit.note(session, [_trace("rotate_secrets", "")])
    return told


@contextmanager
def _transaction() -> Iterator[Session]:
    database = Database(read_settings().database_url)
    try:
        if not schema.is_current(database):
            give_up("The database is not at the newest migration; run `finebits migrate` first.")
        with database.transaction() as session:
            yield session
    except OperationalError as error:
        give_up(f"The database cannot be reached: {error.orig}.", ExitCode.UNREACHABLE)
    finally:
        database.close()


def _trace(action: str, subject: str) -> Trace:
    return Trace(owner="local", key="command", action=action, subject=subject, client=socket.gethostname(), request_id="")


def _row(key: ApiKey) -> list[str]:
    state = "revoked" if key.revoked_at is not None else ""
    times = [_day(key.created_at), _day(key.expires_at), _day(key.last_used_at)]
    return [key.id, key.owner, " ".join(key.scopes), key.name or "", *times, state]


def _day(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes")[:16]
