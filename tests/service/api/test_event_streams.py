import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy.exc import OperationalError

from service.api.following import MOST_WAITING, Following
from service.api.series import Place, series_told
from service.ports import free_port
from service.specs.read import read_job
from service.store import events, jobs, leases, metrics, schema, wishes
from service.store.session import Database
from service.store.states import State
from tests.service.api import made
from tests.service.api.door import Door
from tests.specs.job_documents import a_job

LAST = "Cancelled before it ran on."
SILENCE_SECONDS = 120.0  # that a client bears of a server on a busy machine


@contextmanager
def served(door: Door) -> Iterator[str]:
    """The application on a real socket, where a client can hang up."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(500)
        server = uvicorn.Server(uvicorn.Config(door.app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            door.app.state.following.is_closing = True
            server.should_exit = True
            thread.join(120)
    assert not thread.is_alive()


def told(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream as a browser reads them: fields up to an empty line."""
    fields: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif fields:
            yield fields
            fields = {}


def add(database: Database, job_id: str, number: int) -> None:
    with database.transaction() as session:
        events.add(session, job_id, "notice", f"number {number}")


def cancel(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        wishes.cancel(session, "local", job_id)


def numbers(database: Database, job_id: str) -> list[int]:
    with database.reading() as session:
        return [event.number for event in events.after(session, job_id, 0, 10_000)]


def test_a_client_that_is_cut_off_at_random_gets_every_event_once_and_in_order(door: Door, database: Database) -> None:
    job_id = door.submit()
    chance = random.Random(5)

    def write() -> None:
        for number in range(60):
            add(database, job_id, number)
        cancel(database, job_id)

    got: list[int] = []
    messages: list[str] = []
    n_connections = 0
    with served(door) as url, httpx2.Client(timeout=SILENCE_SECONDS) as client:
        writer = threading.Thread(target=write)
        writer.start()
        is_over = False
        while not is_over:
            n_connections += 1
            headers = {"Last-Event-ID": str(got[-1])} if got else {}
            stays_for = chance.randint(1, 12)
            with client.stream("GET", f"{url}/jobs/{job_id}/events/stream", headers=headers) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                for event in told(response.iter_lines()):
                    if event.get("event") == "end":
                        is_over = True
                        assert json.loads(event["data"]) == {"state": "cancelled"}
                    elif "id" in event:
                        got.append(int(event["id"]))
                        messages.append(json.loads(event["data"])["message"])
                        stays_for -= 1
                    else:
                        assert set(event) == {"retry"}
                    if stays_for == 0:
                        break
        writer.join()
        again = client.get(f"{url}/jobs/{job_id}/events/stream", headers={"Last-Event-ID": str(got[-1])})
    assert n_connections > 5
    assert got == numbers(database, job_id) == list(range(1, 63))
    assert messages[1:-1] == [f"number {number}" for number in range(60)]
    assert messages[-1] == LAST
    assert (again.status_code, again.content) == (204, b"")


def test_many_streams_take_no_thread_each_and_all_are_told(plain_door: Door) -> None:
    database = plain_door.app.state.database
    job_ids = [plain_door.submit() for _ in range(3)]
    with served(plain_door) as url, ExitStack() as stack:
        before = threading.active_count()
        client = stack.enter_context(httpx2.Client(limits=httpx2.Limits(max_connections=None), timeout=SILENCE_SECONDS))
        streams = [
            stack.enter_context(client.stream("GET", f"{url}/jobs/{job_ids[place % 3]}/events/stream", params={"after": 1}))
            for place in range(60)
        ]
        for job_id in job_ids:
            cancel(database, job_id)
        for stream in streams:
            said = list(told(stream.iter_lines()))
            assert [event.get("id", event.get("event")) for event in said] == [None, "2", "end"]
            assert json.loads(said[1]["data"])["message"] == LAST
        # the one that looks, and those that answered whether there are such jobs
        assert threading.active_count() - before < 15


def test_a_stream_of_no_job_or_from_no_number_is_a_problem(plain_door: Door) -> None:
    assert plain_door.get("/jobs/job-none/events/stream").json()["code"] == "not_found"
    job_id = plain_door.submit()
    answer = plain_door.get(f"/jobs/{job_id}/events/stream", headers={"Last-Event-ID": "x"})
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"


def follow(following: Following, job_id: str, after: int, most: int = 1_000_000) -> list[bytes]:
    """What a stream says to its end, or so many blocks of it."""
    said: list[bytes] = []

    async def listen() -> None:
        async for block in following.events(job_id, after):
            said.append(block)
            if len(said) == most:
                following.close()

    asyncio.run(asyncio.wait_for(listen(), 120))
    return said


def test_a_stream_with_nothing_to_tell_is_kept_alive(plain_door: Door) -> None:
    following = Following(plain_door.app.state.database, tick_seconds=0.01, heartbeat_seconds=0.05)
    said = follow(following, plain_door.submit(), 1, most=4)
    assert said[0] == b"retry: 1000\n\n"
    assert set(said[1:]) == {b": ping\n\n"}


def test_a_stream_begins_with_a_long_story_from_its_start(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    with database.transaction() as session:
        for number in range(2 * MOST_WAITING):
            events.add(session, job_id, "notice", f"number {number}")
        wishes.cancel(session, "local", job_id)
    said = follow(Following(database, tick_seconds=0.01), job_id, 0)
    ids = [line for block in said for line in block.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [b"id: %d" % number for number in range(1, 2 * MOST_WAITING + 3)]
    assert b"event: end" in said[-1]


def test_streams_that_begin_at_different_places_share_a_look_and_each_is_told_its_own(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    for number in range(5):
        add(database, job_id, number)
    cancel(database, job_id)
    following = Following(database, tick_seconds=0.01)

    async def numbers_behind(after: int) -> list[int]:
        said = [block async for block in following.events(job_id, after)]
        return [int(line[4:]) for block in said for line in block.split(b"\n") if line.startswith(b"id: ")]

    async def all_of_them() -> list[list[int]]:
        return await asyncio.gather(*(numbers_behind(after) for after in (0, 3, 6)))

    assert asyncio.run(all_of_them()) == [[1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7], [7]]


def test_a_stream_of_a_job_that_is_deleted_ends(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    cancel(database, job_id)
    with database.transaction() as session:
        wishes.delete(session, "local", job_id)
    assert b'{"state":"deleted"}' in follow(Following(database, tick_seconds=0.01), job_id, 0)[-1]


def test_a_server_that_is_told_to_stop_ends_its_streams_and_is_not_kept_by_them(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(database)
    environment = os.environ | {"FINEBITS_HOME": str(tmp_path)}
    for name in ("models", "datasets", "artifacts"):
        (tmp_path / name).mkdir()
    port = free_port()
    command = ["-m", "uvicorn", "--factory", "service.app:from_environment", "--port", str(port), "--log-level", "warning"]
    job_id = _stored(database)
    server = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        _wait_for(port, server)
        address = f"http://127.0.0.1:{port}/jobs/{job_id}/events/stream"
        with httpx2.stream("GET", address, timeout=SILENCE_SECONDS) as response:
            said = told(response.iter_lines())
            assert [next(said).get("id") for _ in range(2)] == [None, "1"]
            server.send_signal(signal.SIGTERM)
            assert list(said) == []  # a clean end of the body, and no word that all is told
        assert server.wait(120) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.wait()
        database.close()


def _stored(database: Database) -> str:
    document = a_job()
    with database.transaction() as session:
        return jobs.create(session, "local", document, read_job(document)).id


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/livez")
            return
        except httpx2.TransportError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


# -- logs ---------------------------------------------------------------------------------------------------------------


def test_a_log_is_followed_through_its_attempts_and_nothing_of_it_is_lost_or_told_twice(plain_door: Door, tmp_path: Path) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    held = made.claim(database)
    logs = tmp_path / "artifacts" / job_id

    def write() -> None:
        for attempt in (1, 2):
            (logs / str(attempt)).mkdir(parents=True)
            for number in range(30):
                with (logs / str(attempt) / "log.txt").open("a", encoding="utf-8") as log:
                    log.write(f"attempt {attempt}, ")
                    log.flush()
                    log.write(f"line {number} ü\n")
            if attempt == 1:
                with database.transaction() as session:
                    leases.give_back(session, held, "elsewhere")
                made.claim(database)
        with (logs / "2" / "log.txt").open("a") as log:
            log.write("the end")  # of which no line came
        with database.transaction() as session:
            jobs.move(session, job_id, State.CANCELLED, worker=None, lease_until=None)

    texts = {1: "", 2: ""}
    last: str | None = None
    with served(plain_door) as url, httpx2.Client(timeout=SILENCE_SECONDS) as client:
        writer = threading.Thread(target=write)
        writer.start()
        is_over = False
        while not is_over:
            headers = {} if last is None else {"Last-Event-ID": last}
            params = {"attempt": 1}
            with client.stream("GET", f"{url}/jobs/{job_id}/logs/stream", params=params, headers=headers) as response:
                for event in told(response.iter_lines()):
                    is_over = event.get("event") == "end"
                    if "id" in event:
                        block, last = json.loads(event["data"]), event["id"]
                        texts[block["attempt"]] += block["text"]
                        break  # cut off behind every one
        writer.join()
    assert texts == {attempt: (logs / str(attempt) / "log.txt").read_text(encoding="utf-8") for attempt in (1, 2)}


def test_a_log_is_read_on_from_where_it_ended(plain_door: Door, tmp_path: Path) -> None:
    job_id = plain_door.submit()
    made.claim(plain_door.app.state.database)
    log = tmp_path / "artifacts" / job_id / "1" / "log.txt"
    assert plain_door.get(f"/jobs/{job_id}/logs", params={"after": 7}).headers["x-log-end"] == "0"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    first = plain_door.get(f"/jobs/{job_id}/logs", params={"after": 4})
    assert (first.text, first.headers["x-log-end"]) == ("two\n", "8")
    log.write_text("one\ntwo\nthree\n")
    assert plain_door.get(f"/jobs/{job_id}/logs", params={"after": 8}).text == "three\n"
    assert plain_door.get(f"/jobs/{job_id}/logs", params={"after": 99}).text == ""
    both = plain_door.get(f"/jobs/{job_id}/logs", params={"after": 1, "tail": 1})
    assert both.json()["errors"][0]["pointer"] == "/query/tail"
    for header, code in (("1", "invalid_parameter"), ("9:0", "not_found")):
        answer = plain_door.get(f"/jobs/{job_id}/logs/stream", headers={"Last-Event-ID": header})
        assert answer.json()["code"] == code


# -- series -------------------------------------------------------------------------------------------------------------


def tell(database: Database, held: leases.Claim, at: int, **values: float) -> None:
    with made.behind_the_fence(database, held) as session:
        metrics.record_points(session, held, "sft", at, values)


def points_of(database: Database, job_id: str) -> dict[str, list[tuple[int, float]]]:
    with database.reading() as session:
        names = metrics.series_names(session, job_id)["sft"]
        return {name: list(zip(*metrics.series(session, job_id, "sft", name), strict=True)) for name in names}


def test_a_client_that_is_cut_off_again_and_again_gets_every_point_once_and_in_order(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    held = made.claim(database)
    got: dict[str, list[tuple[int, float]]] = {}
    headers: dict[str, str] = {}

    def take(event: dict[str, Any]) -> None:
        headers["Last-Event-ID"] = event["id"]
        for name, columns in json.loads(event["data"])["series"].items():
            got.setdefault(name, []).extend(zip(columns["step"], columns["value"], strict=True))

    with served(plain_door) as url, httpx2.Client(timeout=SILENCE_SECONDS) as client:
        address = f"{url}/jobs/{job_id}/metrics/series/stream"
        for at in range(10, 50, 10):
            tell(database, held, at, loss=4 - at / 100, learning_rate=0.001)
            with client.stream("GET", address, headers=headers) as response:
                said = (event for event in told(response.iter_lines()) if "id" in event)
                take(next(said))
                tell(database, held, at + 1, loss=3.0)
                take(next(said))
                tell(database, held, at + 2, loss=2.0)  # and the client is gone
            tell(database, held, at, **{"eval/loss=&": float(at)})  # behind the others of its update
        made.succeed(database, held)
        with client.stream("GET", address, headers=headers) as response:
            *rest, end = told(response.iter_lines())
        for event in rest:
            if "id" in event:
                take(event)
        again = client.get(address, headers=headers)
    assert json.loads(end["data"]) == {"state": "succeeded"}
    assert got == points_of(database, job_id)
    assert [at for at, _ in got["eval/loss=&"]] == [10, 20, 30, 40]
    assert (again.status_code, again.content) == (204, b"")


def test_a_stream_of_points_begins_behind_an_update_and_refuses_what_is_no_id_of_it(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    held = made.claim(database)
    for at in (1, 2, 3):
        tell(database, held, at, loss=float(at))
    made.succeed(database, held)
    address = f"/jobs/{job_id}/metrics/series/stream"
    [said, end] = [
        event for event in told(iter(plain_door.get(address, params={"after": 1}).text.split("\n"))) if "data" in event
    ]
    assert json.loads(said["data"]) == {"pipeline_step": "sft", "series": {"loss": {"step": [2, 3], "value": [2.0, 3.0]}}}
    assert (said["id"], end["event"]) == ("loss=3", "end")
    assert plain_door.get(address, params={"after": 3}).status_code == 204
    for wrong in ("x", "loss=", "loss=x", "loss=-1", "loss=1&&", f"loss={2**31}"):
        answer = plain_door.get(address, headers={"Last-Event-ID": wrong})
        assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id", wrong
    assert plain_door.get(address, params={"step": "rm"}).json()["errors"][0]["pointer"] == "/query/step"
    assert plain_door.get("/jobs/job-none/metrics/series/stream").json()["code"] == "not_found"


def test_a_stream_of_points_is_kept_alive_while_the_job_changes_and_no_series_grows(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    held = made.claim(database)
    following = Following(database, tick_seconds=0.01, heartbeat_seconds=30)
    said: list[bytes] = []

    async def listen() -> None:
        async for block in series_told(following, database, Place(job_id, "sft", -1, {})):
            said.append(block)

    async def run() -> None:
        task = asyncio.create_task(listen())
        deadline = time.monotonic() + 120
        for number in itertools.count(2):
            progress = {"step": "sft", "phase": "measuring", "global_step": number}
            with database.transaction() as session:
                leases.renew(session, held, 60, progress)
            await asyncio.sleep(0.01)
            if said.count(b": ping\n\n") >= 3 or time.monotonic() > deadline:
                break
        following.close()
        await asyncio.wait_for(task, 120)

    asyncio.run(run())
    assert said[0] == b"retry: 1000\n\n"
    assert said.count(b": ping\n\n") >= 3


def test_a_stream_of_points_is_cut_while_the_database_is_away_and_says_no_end(
    plain_door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, ConnectionError())

    monkeypatch.setattr(metrics, "behind", away)
    following = Following(database, tick_seconds=0.01)

    async def listen() -> list[bytes]:
        return [block async for block in series_told(following, database, Place(job_id, "sft", -1, {}))]

    assert asyncio.run(listen()) == [b"retry: 1000\n\n"]
    assert "the database did not answer" in caplog.text


def test_progress_comes_with_the_events_of_whoever_asks_for_it(plain_door: Door) -> None:
    database, job_id = plain_door.app.state.database, plain_door.submit()
    held = made.claim(database)
    address = f"/jobs/{job_id}/events/stream"
    seen: list[dict[str, Any]] = []
    asked = {"params": {"progress": True, "after": 2}, "timeout": SILENCE_SECONDS}
    with served(plain_door) as url, httpx2.stream("GET", url + address, **asked) as response:
        said = told(response.iter_lines())
        assert set(next(said)) == {"retry"}
        for at in (7, 8):
            with database.transaction() as session:
                leases.renew(session, held, 60, {"step": "sft", "global_step": at})
            event = next(one for one in said if one.get("event") == "progress")
            assert "id" not in event, "it is no place to go on from"
            seen.append(json.loads(event["data"]))
        made.succeed(database, held)
        assert [event.get("event") for event in said][-1] == "end"
    assert [one["global_step"] for one in seen] == [7, 8]
    assert "event: progress" not in plain_door.get(address).text
