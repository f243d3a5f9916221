"""Who asks too often is told when to go on, and nobody else notices."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from service.api import access
from service.api.client_address import address_of
from service.app import create_app
from service.specs.scopes import Scope
from service.store import keys, schema
from service.store.session import Database
from tests.service.api.door import Door
from tests.service.api.test_keys import a_key

OPERATOR = "correct-horse-battery"


@pytest.fixture
def narrow(settings, plain_door, bell):
    """A door that lets four requests through, and looks at three keys that open nothing."""

    def opened(**more):
        changed = {"rate_limit": 0.001, "rate_burst": 4, "failed_sign_ins_per_minute": 3, **more}
        return Door(create_app(settings.model_copy(update=changed), plain_door.app.state.database, bell))

    return opened


def test_one_request_too_many_is_told_when_to_go_on(narrow):
    door = narrow()
    assert [door.get("/jobs").status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    refused = door.post("/jobs", json={})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 900 < int(refused.headers["retry-after"]) <= 1000


def test_everything_counts_but_health(narrow):
    door = narrow()
    for path in ("/nothing", "/openapi.json", "/jobs?limit=-1", "/jobs/x"):
        assert door.get(path).status_code != 429
    assert door.get("/nothing").status_code == 429
    for path in ("/livez", "/readyz", "/metrics") * 10:
        assert door.get(path).status_code == 200


def test_a_refusal_is_counted_and_has_an_id(narrow):
    door = narrow()
    ids = [door.get("/jobs", headers={"x-request-id": f"mine-{number}"}).headers["x-request-id"] for number in range(5)]
    assert ids[-1] == "mine-4"
    assert 'finebits_http_requests_total{code="429",method="GET",route="none"} 1.0' in door.get("/metrics").text


def test_each_key_has_its_own_bucket_whatever_address_it_comes_from(narrow):
    door = narrow(require_key=True)
    (_, ann), (_, bob) = a_key(door, "ann"), a_key(door, "bob")
    # whoever is not known yet is let in as an address, once
    assert [door.get("/jobs", headers=ann).status_code for _ in range(6)] == [200] * 5 + [429]
    assert [door.get("/jobs", headers=bob).status_code for _ in range(6)] == [200] * 5 + [429]
    elsewhere = Door(door.app, client=("10.0.0.9", 1))
    assert elsewhere.get("/jobs", headers=ann).status_code == 429


def test_addresses_without_a_key_do_not_share_one(narrow):
    door = narrow()
    for host in ("10.0.0.1", "10.0.0.2"):
        client = Door(door.app, client=(host, 1))
        assert [client.get("/jobs").status_code for _ in range(5)] == [200] * 4 + [429]


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (("10.0.0.1", 7), "10.0.0.1"),
        (("2001:db8:1:2:3::4", 7), "2001:db8:1:2::/64"),
        (("testclient", 7), "testclient"),
        (None, "nowhere"),
    ],
)
def test_an_address_is_a_host_or_a_network_of_ipv6(client, told):
    assert address_of({"client": client}) == told


def test_a_long_body_that_is_refused_is_not_read_to_its_end(narrow):
    door = narrow(rate_burst=1)
    assert door.get("/jobs").status_code == 200
    assert "connection" not in door.post("/jobs", json={}).headers
    assert door.put("/datasets/x?file_name=a.json", content=b"x" * 70_000).headers["connection"] == "close"
    assert door.put("/datasets/x?file_name=a.json", content=iter([b"x"])).headers["connection"] == "close"


# -- keys that open nothing ----------------------------------------------------------------------------------------------


def guess(door: Any, number: int) -> int:
    return int(door.get("/jobs", headers={"authorization": f"Bearer guess-{number}"}).status_code)


def test_keys_that_open_nothing_are_looked_at_three_times_and_then_no_more(narrow, monkeypatch):
    door = narrow(require_key=True, rate_burst=100)
    looked_at: list[str] = []
    find = keys.find
    monkeypatch.setattr(keys, "find", lambda session, given: looked_at.append(given) or find(session, given))
    assert [guess(door, number) for number in range(6)] == [401] * 3 + [429] * 3
    assert len(looked_at) == 3
    refused = door.get("/jobs", headers={"authorization": "Bearer again"})
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused.headers["retry-after"]) <= 20
    assert guess(Door(door.app, client=("10.0.0.9", 1)), 7) == 401


def test_who_is_known_is_let_in_from_an_address_that_guesses_and_who_is_not_waits(narrow, monkeypatch):
    monkeypatch.setattr(access, "KEY_SECONDS", -1)  # what was known is looked up again, and opens still
    door = narrow(require_key=True, rate_burst=100)
    (_, ann), (_, bob) = a_key(door, "ann"), a_key(door, "bob")
    assert door.get("/jobs", headers=ann).status_code == 200
    for number in range(4):
        guess(door, number)
    assert door.get("/jobs", headers=ann).status_code == 200
    assert door.get("/jobs", headers=bob).status_code == 429
    assert Door(door.app, client=("10.0.0.9", 1)).get("/jobs", headers=bob).status_code == 200


def test_the_operator_s_own_key_cannot_be_guessed_at_full_speed_either(narrow):
    door = narrow(api_key=SecretStr(OPERATOR), rate_burst=100)
    right = {"authorization": f"Bearer {OPERATOR}"}
    for number in range(3):
        assert guess(door, number) == 401
    assert door.get("/jobs", headers=right).status_code == 429  # although it is the one
    other = Door(door.app, client=("10.0.0.9", 1))
    assert other.get("/jobs", headers=right).status_code == 200
    assert door.get("/jobs", headers=right).status_code == 200  # it is known now


def test_good_keys_cost_nothing_and_neither_does_a_database_that_is_away(narrow, monkeypatch):
    door = narrow(require_key=True, rate_burst=100)
    for number in range(10):
        assert door.get("/jobs", headers=a_key(door, f"owner-{number}")[1]).status_code == 200

    def fail(*arguments: object) -> None:
        raise OperationalError("", {}, Exception("away"))

    with monkeypatch.context() as patched:
        patched.setattr(keys, "find", fail)
        assert [guess(door, number) for number in range(6)] == [503] * 6
    assert guess(door, 7) == 401


# -- a real server, and many at once -------------------------------------------------------------------------------------


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[str]:
    """A server process of its own; its address. Several may share the home."""
    for name in ("models", "datasets", "artifacts"):
        (home / name).mkdir(exist_ok=True)
    environment = (
        os.environ | {"FINEBITS_HOME": str(home)} | {f"FINEBITS_{name.upper()}": value for name, value in settings.items()}
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        number = listener.fileno()
        command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:from_environment", "--fd", str(number)]
        server = subprocess.Popen([*command, "--log-level", "critical"], env=environment, pass_fds=[number])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def two_keys(tmp_path: Path) -> dict[str, dict[str, str]]:
    database = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(database)
    with database.transaction() as session:
        made = {owner: keys.create(session, owner, [Scope.READ, Scope.SUBMIT])[1] for owner in ("ann", "bob")}
    database.close()
    return {owner: {"authorization": f"Bearer {key}"} for owner, key in made.items()}


def test_a_flood_of_one_key_and_of_guesses_is_held_while_health_and_the_other_owner_are_answered(tmp_path, broker_url, two_keys):
    per_second, burst, n_looks = 40, 60, 15
    narrow = {
        "rate_limit": str(per_second),
        "rate_burst": str(burst),
        "failed_sign_ins_per_minute": "5",
        "broker_url": broker_url,
    }
    with serving(tmp_path, **narrow) as url:
        with httpx2.Client(base_url=url, timeout=60) as client:
            # a key that is not known yet counts for its address, which is about to guess
            for owner in ("ann", "bob"):
                assert client.get("/jobs", headers=two_keys[owner]).status_code == 200
        flood = Flood(url)
        began_at = time.monotonic()
        flood.start("ann", 4, lambda client: client.get("/jobs", headers=two_keys["ann"]))
        flood.start("guesses", 2, lambda client: client.get("/jobs", headers={"authorization": f"Bearer {time.monotonic()}"}))
        seen = Counter[tuple[str, int]]()
        with httpx2.Client(base_url=url, timeout=60) as client:
            # answered while the flood goes on: it ends when these are through
            while flood.statuses["ann", 429] < 50 or flood.statuses["guesses", 429] < 20:
                time.sleep(0.01)
            for _ in range(n_looks):
                for path in ("/livez", "/readyz"):
                    seen[path, client.get(path).status_code] += 1
                seen["bob", client.get("/jobs", headers=two_keys["bob"]).status_code] += 1
            seen["/metrics", client.get("/metrics", headers=two_keys["bob"]).status_code] += 1
        flood.stop()
        seconds = time.monotonic() - began_at
    assert seen == {("/livez", 200): n_looks, ("/readyz", 200): n_looks, ("bob", 200): n_looks, ("/metrics", 200): 1}
    assert burst - 1 <= flood.statuses["ann", 200] <= burst + per_second * seconds + 1
    assert 1 <= flood.statuses["guesses", 401] <= 5 + 5 / 60 * seconds + 1
    assert set(flood.statuses) == {("ann", 200), ("ann", 429), ("guesses", 401), ("guesses", 429)}


@pytest.mark.long
def test_two_processes_hold_a_flood_together_and_both_answer_health(tmp_path, broker_url, two_keys):
    """One key and one address that guesses ask both at once: together they are let through as often as at one."""
    per_second, burst, n_looks = 20, 60, 15
    shared = {
        "rate_limit": str(per_second),
        "rate_burst": str(burst),
        "failed_sign_ins_per_minute": "5",
        "rate_limit_shared": "1",
        "broker_url": broker_url,
    }
    with serving(tmp_path, **shared) as one, serving(tmp_path, **shared) as other:
        for url in (one, other):
            for owner in ("ann", "bob"):
                assert httpx2.get(f"{url}/jobs", headers=two_keys[owner], timeout=60).status_code == 200
        began_at = time.monotonic()
        floods = [Flood(url) for url in (one, other)]
        for flood in floods:
            flood.start("ann", 2, lambda client: client.get("/jobs", headers=two_keys["ann"]))
            flood.start("guesses", 1, lambda client: client.get("/jobs", headers={"authorization": f"Bearer {time.monotonic()}"}))
        while any(flood.statuses["ann", 429] < 50 or flood.statuses["guesses", 429] < 20 for flood in floods):
            time.sleep(0.01)
        seen = Counter[tuple[str, int]]()
        for url in (one, other):
            with httpx2.Client(base_url=url, timeout=60) as client:
                for _ in range(n_looks):
                    for path in ("/livez", "/readyz"):
                        seen[path, client.get(path).status_code] += 1
                seen["bob", client.get("/jobs", headers=two_keys["bob"]).status_code] += 1
        for flood in floods:
            flood.stop()
        seconds = time.monotonic() - began_at
    assert seen == {("/livez", 200): 2 * n_looks, ("/readyz", 200): 2 * n_looks, ("bob", 200): 2}
    together = floods[0].statuses + floods[1].statuses
    assert burst - 2 <= together["ann", 200] <= burst + per_second * seconds + 2
    assert 1 <= together["guesses", 401] <= 5 + 5 / 60 * seconds + 2
    assert all(flood.statuses["ann", 200] > 0 for flood in floods)
    assert set(together) == {("ann", 200), ("ann", 429), ("guesses", 401), ("guesses", 429)}


class Flood:
    """Threads that ask as fast as they can, until they are told to stop."""

    def __init__(self, url: str):
        self.statuses = Counter[tuple[str, int]]()
        self._url = url
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, name: str, number: int, ask: Callable[[httpx2.Client], httpx2.Response]) -> None:
        for _ in range(number):
            self._threads.append(threading.Thread(target=self._run, args=(name, ask)))
            self._threads[-1].start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, ask: Callable[[httpx2.Client], httpx2.Response]) -> None:
        with httpx2.Client(base_url=self._url, timeout=60) as client:
            while not self._stopping.is_set():
                status = ask(client).status_code
                with self._lock:
                    self.statuses[name, status] += 1


def test_openai_s_client_waits_as_it_is_told_and_comes_again(tmp_path, two_keys):
    key = two_keys["ann"]["authorization"].removeprefix("Bearer ")
    with serving(tmp_path, rate_limit="2", rate_burst="2") as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=5)
        assert [client.models.list().data for _ in range(4)] == [[]] * 4
        impatient = client.with_options(max_retries=0)
        with pytest.raises(openai.RateLimitError, match="one key"):
            [impatient.models.list() for _ in range(1000)]
