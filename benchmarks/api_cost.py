"""What the API costs over a bare FastAPI application that does the least the same answer needs.

    python benchmarks/api_cost.py [--seconds 5] [--rounds 3] [--connections 32] [--sqlite | --postgresql]

POST: requests a second and the 99th percentile, over an application that inserts the document as one row and answers its id.
GET: 1,000 metric points, and a list of 50 jobs, over an application that answers the same bytes from one query. Both sides run
in the same way (uvicorn, one process, plain `def` endpoints, SQLAlchemy, one server, every commit on the disk) and take turns.
No worker runs; the broker does.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import insert  # noqa: E402

from service.store import schema  # noqa: E402
from service.store.session import Database  # noqa: E402
from service.store.tables import Job, Point  # noqa: E402
from tests import servers  # noqa: E402

JOB = json.loads((ROOT / "examples" / "sft-lora.json").read_text(encoding="utf-8"))
POINTS = 1000
LISTED = 50


@dataclass
class Load:
    """What a burst of requests saw."""

    requests: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def p99_ms(self) -> float:
        return 1000 * statistics.quantiles(self.latencies, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each burst")
    parser.add_argument("--rounds", type=int, default=3, help="bursts of each side; medians are printed")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    asked = parser.parse_args()
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        print(f"{kind}, {asked.connections} connections, median of {asked.rounds} bursts of {asked.seconds:g} s")
        compare(kind, asked.seconds, asked.rounds, asked.connections)


def compare(kind: str, seconds: float, rounds: int, connections: int) -> None:
    with tempfile.TemporaryDirectory(prefix="fb-api-") as folder, database_url(kind, folder) as url, servers.broker() as broker:
        database = Database(url)
        schema.upgrade(database)
        database.close()
        with serving(ours(), url, broker, folder) as our_port, serving(bare(), url, broker, folder) as bare_port:
            posts = {"ours": [], "bare": []}  # type: dict[str, list[Load]]
            for _ in range(rounds):
                posts["ours"].append(burst(our_port, post("/jobs", JOB), 201, seconds, connections))
                posts["bare"].append(burst(bare_port, post("/rows", JOB), 201, seconds, connections))
            tell("POST /jobs", posts)
            job_id = a_job_with_points(url)
            for name, path in {
                f"GET {POINTS} metric points": f"/jobs/{job_id}/metrics/series?name=loss",
                f"GET a list of {LISTED} jobs": f"/jobs?limit={LISTED}",
            }.items():
                answer = body_of(our_port, path)
                body_of(bare_port, "/bytes", answer)
                gets = {"ours": [], "bare": []}  # type: dict[str, list[Load]]
                for _ in range(rounds):
                    gets["ours"].append(burst(our_port, get(path), 200, seconds, connections))
                    gets["bare"].append(burst(bare_port, get("/bytes"), 200, seconds, connections))
                tell(f"{name} ({len(answer):,} bytes)", gets)


def tell(what: str, sides: dict[str, list[Load]]) -> None:
    rate = {side: statistics.median(load.rate for load in loads) for side, loads in sides.items()}
    p99 = {side: statistics.median(load.p99_ms for load in loads) for side, loads in sides.items()}
    print(
        f"  {what:44} {rate['ours']:7.0f}/s over {rate['bare']:7.0f}/s = {rate['ours'] / rate['bare']:.2f}"
        f"    p99 {p99['ours']:6.1f} ms and {p99['bare']:6.1f} ms",
        flush=True,
    )


# -- what is measured ------------------------------------------------------------------------------------------------------


def ours() -> list[str]:
    return ["service.app:from_environment", "--factory"]


def bare() -> list[str]:
    return ["benchmarks.bare_app:from_environment", "--factory"]


@contextmanager
def database_url(kind: str, folder: str) -> Iterator[str]:
    server = servers.postgresql(fsync=True) if kind == "postgresql" else nullcontext(f"sqlite:///{folder}/finebits.db")
    with server as url:
        yield url


@contextmanager
def serving(app: list[str], url: str, broker: str, home: str) -> Iterator[int]:
    """The application under uvicorn, in a process of its own; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = os.environ | {
        "FINEBITS_HOME": home,
        "FINEBITS_DATABASE_URL": url,
        "FINEBITS_BROKER_URL": broker,
        "FINEBITS_MODELS_ROOT": str(ROOT / "examples" / "models"),
        "FINEBITS_DATASETS_ROOT": str(ROOT / "examples"),
        "FINEBITS_RATE_LIMIT": "1000000",  # counted, and met by nobody
        "FINEBITS_RATE_BURST": "1000000",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "uvicorn", *app, "--port", str(port), "--log-level", "warning", "--no-access-log"]
    server = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        wait_for(port, server)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("a server did not start")


def a_job_with_points(url: str) -> str:
    """A job of those there are, given a series of 1,000 points."""
    database = Database(url)
    with database.transaction() as session:
        job_id = str(session.query(Job.id).limit(1).scalar())
        rows = [
            {"job_id": job_id, "step": "sft", "name": "loss", "global_step": step, "value": 2.0 + 1.0 / (step + 1)}
            for step in range(POINTS)
        ]
        session.execute(insert(Point), rows)
    database.close()
    return job_id


# -- the load: one process of its own would be fairer still, but the client costs both sides the same ------------------------


def post(path: str, document: Any) -> bytes:
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def body_of(port: int, path: str, given: bytes | None = None) -> bytes:
    """One answer; with `given`, a PUT of it."""

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if given is None:
            request = get(path)
        else:
            request = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(given)}\r\n\r\n".encode() + given
        writer.write(request)
        status, body = await answer(reader)
        writer.close()
        if status not in (200, 204):
            raise SystemExit(f"{path} was answered with {status}: {body[:300]!r}")
        return body

    return asyncio.run(ask())


def burst(port: int, request: bytes, expected: int, seconds: float, connections: int) -> Load:
    """Each connection sends its next request when it has the answer to the last."""

    async def one(until: float, latencies: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(request)
            status, body = await answer(reader)
            if status != expected:
                raise SystemExit(f"{status} instead of {expected}: {body[:300]!r}")
            latencies.append(time.perf_counter() - began)
        writer.close()

    async def all_of_them() -> Load:
        latencies: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(one(began + seconds, latencies) for _ in range(connections)))
        return Load(len(latencies), time.perf_counter() - began, latencies)

    asyncio.run(_warm(port, request))
    return asyncio.run(all_of_them())


async def _warm(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(20):
        writer.write(request)
        await answer(reader)
    writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = 0
    for line in head.split(b"\r\n")[1:]:
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return status, await reader.readexactly(length)


if __name__ == "__main__":
    main()
