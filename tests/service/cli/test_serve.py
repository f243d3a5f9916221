import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.client import Client
from service.ports import free_port
from service.store import jobs, schema
from service.store.session import Database
from tests.service.api.made import artifact, claim
from tests.service.shelves import stocked
from tests.service.store.stored import a_document, a_read_job
from tests.specs.job_documents import a_job

KEY = "sixteen-characters"


def environment(home: Path, **more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FINEBITS_")}
    return ours | {"FINEBITS_HOME": str(home)} | more


@dataclass
class Served:
    """`finebits serve` on a port of its own."""

    process: "subprocess.Popen[bytes]"
    port: int
    artifacts: Path
    database: Database

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 120)

    def is_listening(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Served]:
    """Until the block ends. Whatever the test did, the process is gone then."""
    database = Database(f"sqlite:///{home}/finebits.db")
    schema.upgrade(database)
    port = free_port()
    values = environment(home, FINEBITS_PORT=str(port), FINEBITS_API_KEY=KEY, **settings)
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "serve"], env=values, stderr=subprocess.DEVNULL)
    try:
        with Client(f"http://127.0.0.1:{port}", KEY) as client:
            until(lambda: answers(client), 180)
        yield Served(process, port, home / "artifacts", database)
    finally:
        process.kill()
        process.wait()
        database.close()


def answers(client: Client) -> bool:
    try:
        return list(client.jobs()) == []
    except Exception:
        return False


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_serves_the_api_where_the_settings_say_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with Client(f"http://127.0.0.1:{served.port}", KEY) as client:
            assert list(client.jobs()) == []
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(120) in (0, -signal.SIGTERM)


def test_with_json_its_log_is_one(tmp_path: Path) -> None:
    schema_of = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(schema_of)
    schema_of.close()
    with (tmp_path / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "service.cli", "serve", "--json"]
        process = subprocess.Popen(command, env=environment(tmp_path, FINEBITS_PORT="0"), stderr=log, stdout=log)
    try:
        until(lambda: "Uvicorn running" in (tmp_path / "log.txt").read_text(), 180)
    finally:
        process.kill()
        process.wait()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert "Uvicorn running on" in json.loads(lines[-1])["message"]


def ask(served: Served, method: str, path: str, *headers: str) -> socket.socket:
    """A request's head, on a connection that is closed with its answer."""
    connection = served.connect()
    head = [f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {KEY}", "Connection: close", *headers]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(2**20), b""))


def large_file(served: Served) -> tuple[str, bytes]:
    """A job's file that fits into no buffer between a server and a client, and its address."""
    with served.database.transaction() as session:
        jobs.create(session, "local", a_document(), a_read_job())
    held = claim(served.database)
    body = os.urandom(2**20) * 48
    artifact(served.database, held, served.artifacts, "sft/weights.bin", body)
    return f"/jobs/{held.job_id}/artifacts/sft/weights.bin", body


def test_told_to_stop_it_answers_what_was_asked_before_and_then_ends(tmp_path: Path) -> None:
    stocked(tmp_path)
    with serving(tmp_path, FINEBITS_STOP_SECONDS="600") as served:
        path, body = large_file(served)
        download = ask(served, "GET", path, "Range: bytes=1000-")
        begun = download.recv(1000)
        document = json.dumps(a_job()).encode()
        headers = ("Content-Type: application/json", f"Content-Length: {len(document)}", "Expect: 100-continue")
        submission = ask(served, "POST", "/jobs", *headers)
        assert submission.recv(1000).startswith(b"HTTP/1.1 100 ")  # the head has arrived, and the body is waited for
        submission.sendall(document[:10])
        served.process.send_signal(signal.SIGTERM)
        until(lambda: not served.is_listening(), 60)
        submission.sendall(document[10:])
        assert rest(submission).startswith(b"HTTP/1.1 201")
        head, _, got = (begun + rest(download)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206")
        assert got == body[1000:]
        assert served.process.wait(120) in (0, -signal.SIGTERM)


def test_a_client_that_does_not_read_keeps_it_no_longer_than_the_setting_says(tmp_path: Path) -> None:
    with serving(tmp_path, FINEBITS_STOP_SECONDS="1") as served:
        path, body = large_file(served)
        download = ask(served, "GET", path)
        begun = download.recv(1000)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(120) in (0, -signal.SIGTERM)
        with suppress(ConnectionResetError):
            assert len(begun + rest(download)) < len(body)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_it_is_open_to_others_only_with_a_key(tmp_path: Path, host: str) -> None:
    command = [sys.executable, "-m", "service.cli", "serve"]
    done = subprocess.run(command, env=environment(tmp_path, FINEBITS_HOST=host), capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no FINEBITS_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
