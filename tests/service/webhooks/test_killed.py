"""An API process that is killed while it tells a webhook something."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from sqlalchemy import select, update

from service.store import schema
from service.store.clock import now
from service.store.session import Database
from service.store.tables import WebhookDelivery
from tests.service.webhooks.receiver import WELL, receiving
from tests.service.webhooks.test_delivering import KEY, end_a_job, listen

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def api(database: Database, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:from_environment", "--port", "0"]
    ours = {
        "FINEBITS_HOME": str(home),
        "FINEBITS_DATABASE_URL": database.url,
        "FINEBITS_SECRET_KEY": KEY.get_secret_value(),
        "FINEBITS_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | ours) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_what_was_on_its_way_when_the_api_was_killed_comes_again_under_the_same_id_from_the_next(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(database)
    with receiving() as receiver:
        receiver.answers = [None, WELL]  # the first is never answered
        listen(database, receiver)
        end_a_job(database)
        with api(database, tmp_path) as killed:
            receiver.wait_for(1)
            killed.kill()
            killed.wait()
        with database.transaction() as session:  # the try's lease, two minutes, is over
            assert session.scalar(select(WebhookDelivery.delivered_at)) is None
            session.execute(update(WebhookDelivery).values(next_at=now()))
        with api(database, tmp_path):
            first, again = receiver.wait_for(2)
            assert (again.id, again.body) == (first.id, first.body)
            wait_until_noted(database)
    database.close()


def wait_until_noted(database: Database, seconds: float = 120) -> None:
    """Else it would be sent a third time."""
    ends_at = monotonic() + seconds
    while True:
        with database.reading() as session:
            if session.scalar(select(WebhookDelivery.delivered_at)) is not None:
                return
        assert monotonic() < ends_at, "the answer was not noted"
        sleep(0.05)
