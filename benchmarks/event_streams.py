"""Many clients that follow jobs: what a stream costs in memory, and how late it tells what a worker wrote.

    python benchmarks/event_streams.py [--streams 200] [--jobs 20] [--seconds 20] [--rate 20] [--only sqlite|postgresql]

The API runs under uvicorn in a process of its own. Its memory (RSS) with all streams open is compared with that before, and with
what as many streams cost a bare Starlette application that tells nothing. Then events are written as a worker writes them, each a
commit, so many a second over all jobs; the delay is from the commit's return to the last byte of the event at a client. The
clients and the writer share this process, and with few cores their own time is in the delay.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import StreamingResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

from service.api.access import LOCAL  # noqa: E402
from service.store import events, schema  # noqa: E402
from service.store.session import Database  # noqa: E402
from tests import servers  # noqa: E402
from tests.service.store.stored import submit  # noqa: E402

AIM_MS = 1000


def bare() -> Starlette:
    """Streams that stay open and tell nothing."""

    async def stream(request: Request) -> StreamingResponse:
        async def told() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(told(), media_type="text/event-stream")

    return Starlette(routes=[Route("/jobs/{job_id}/events/stream", stream)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=20, help="events a second")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    asked = parser.parse_args()
    with serving(["benchmarks.event_streams:bare"], {}) as (port, server):
        _, bare_bytes = asyncio.run(follow(port, server, ["job"], asked.streams, lambda: None))
    print(f"a bare application: {bare_bytes / 1024:.1f} KiB a stream")
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        with ExitStack() as stack:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-streams-"))
            known = servers.postgresql(fsync=True) if kind == "postgresql" else nullcontext(f"sqlite:///{home}/finebits.db")
            url = stack.enter_context(known)
            database = Database(url)
            stack.callback(database.close)
            schema.upgrade(database)
            of_jobs(database, asked, home, kind, bare_bytes)


def of_jobs(database: Database, asked: argparse.Namespace, home: str, kind: str, bare_bytes: float) -> None:
    job_ids = [submit(database, LOCAL) for _ in range(asked.jobs)]
    written: dict[tuple[str, int], float] = {}

    def write() -> None:
        chance, ends_at, number = random.Random(1), time.monotonic() + asked.seconds, 0
        while time.monotonic() < ends_at:
            job_id = chance.choice(job_ids)
            with database.transaction() as session:
                events.add(session, job_id, "notice", f"number {number}")
                count = len([key for key in written if key[0] == job_id]) + 2  # the first event was told when it was queued
            written[job_id, count] = time.perf_counter()
            number += 1
            time.sleep(chance.expovariate(asked.rate))
        time.sleep(2)

    environment = {"FINEBITS_HOME": home, "FINEBITS_DATABASE_URL": database.url}
    with serving(["--factory", "service.app:from_environment"], environment) as (port, server):
        read, n_bytes = asyncio.run(follow(port, server, job_ids, asked.streams, write))
    delays = sorted((at - written[key]) * 1000 for key, at in read if key in written)
    expected = sum(1 for job_id, _ in written for place in range(asked.streams) if job_ids[place % asked.jobs] == job_id)
    print(f"{kind}: {len(written)} events to {asked.streams} streams of {asked.jobs} jobs")
    print(f"  told {len(delays)} of {expected}, which is {'every one' if len(delays) == expected else 'NOT every one'}")
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    verdict = "under" if p99 < AIM_MS else "OVER"
    print(f"  delay p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {delays[-1]:.0f} ms; p99 is {verdict} the aim of {AIM_MS} ms")
    print(f"  memory {n_bytes / 1024:.1f} KiB a stream = {n_bytes / bare_bytes:.2f} of the bare application's")


async def follow(port: int, server: "subprocess.Popen[bytes]", job_ids: list[str], n: int, write: object) -> tuple[list, float]:
    """((job, number), when it was read) of all that came, and the server's bytes a stream."""
    read: list[tuple[tuple[str, int], float]] = []
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(n)]
    for place, (_, writer) in enumerate(streams):
        job_id = job_ids[place % len(job_ids)]
        writer.write(f"GET /jobs/{job_id}/events/stream?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def listen(job_id: str, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b"id: "):
                read.append(((job_id, int(line[4:])), time.perf_counter()))

    tasks = [asyncio.create_task(listen(job_ids[place % len(job_ids)], reader)) for place, (reader, _) in enumerate(streams)]
    await asyncio.sleep(3)
    n_bytes = (process.memory_info().rss - before) / n
    await asyncio.to_thread(write)  # type: ignore[arg-type]
    for task in tasks:
        task.cancel()
    for _, writer in streams:
        writer.close()
    return read, n_bytes


@contextmanager
def serving(app: list[str], settings: dict[str, str]) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The application under uvicorn, in a process of its own; it has answered a few streams before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "uvicorn", *app, "--port", str(port), "--log-level", "warning", "--no-access-log"]
    command += ["--timeout-graceful-shutdown", "5"]
    if "--factory" not in app:
        command.append("--factory")
    environment = os.environ | settings | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        wait_for(port, server)
        yield port, server
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


if __name__ == "__main__":
    main()
