"""What a request costs the processor, over a bare FastAPI application that does the least the same answer needs.

    python benchmarks/request_cpu.py [--rounds 20] [--requests 64] [--only POST] [--profile ours]

Both applications are called in this process, without a server or a network: so many requests at once, in turns, and the least
that a round took, of all threads. What `api_cost.py` measures as rates, without what else the machine does. SQLite.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402
from anyio import to_thread  # noqa: E402
from fastapi import FastAPI  # noqa: E402

from benchmarks import bare_app  # noqa: E402
from benchmarks.api_cost import JOB, LISTED, POINTS, a_job_with_points  # noqa: E402
from service.app import create_app  # noqa: E402
from service.settings import Settings  # noqa: E402
from service.store import schema  # noqa: E402
from service.store.session import Database  # noqa: E402

AT_ONCE = 32


class Silent:
    """A doorbell that nobody hears: the broker's cost is not what is compared."""

    def ring(self, *queues: Any, **wishes: Any) -> None:
        return

    def answers(self) -> bool:
        return True

    def close(self) -> None:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=64, help="in a round")
    parser.add_argument("--only", default="", help="a word of the comparisons that are wanted")
    parser.add_argument("--profile", choices=("ours", "bare"), help="where this side's time goes, instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fb-cpu-") as home, applications(home) as sides:
        asyncio.run(compare(sides, home, asked))


@contextmanager
def applications(home: str) -> Iterator[dict[str, FastAPI]]:
    url = f"sqlite:///{home}/finebits.db"
    database = Database(url)
    schema.upgrade(database)
    os.environ["FINEBITS_DATABASE_URL"] = url
    places = {"models_root": ROOT / "examples" / "models", "datasets_root": ROOT / "examples"}
    settings = Settings(home=Path(home), rate_limit=1e6, rate_burst=10**6, **places)  # counted, and met by nobody
    yield {"ours": create_app(settings, database, Silent()), "bare": bare_app.from_environment()}
    database.close()


async def compare(sides: dict[str, FastAPI], home: str, asked: argparse.Namespace) -> None:
    job = orjson.dumps(JOB)
    for _ in range(LISTED):
        await request(sides["ours"], "POST", "/jobs", job)
    job_id = a_job_with_points(f"sqlite:///{home}/finebits.db")
    for name, method, ours, bare in (
        ("POST /jobs", "POST", "/jobs", "/rows"),
        (f"GET {POINTS} metric points", "GET", f"/jobs/{job_id}/metrics/series?name=loss", "/bytes"),
        (f"GET a list of {LISTED} jobs", "GET", f"/jobs?limit={LISTED}", "/bytes"),
    ):
        if asked.only not in name:
            continue
        if method == "GET":
            await request(sides["bare"], "PUT", "/bytes", await request(sides["ours"], "GET", ours))
        paths = {"ours": ours, "bare": bare}
        body = job if method == "POST" else b""
        await one_round(sides["ours"], method, ours, body, asked.requests)
        await one_round(sides["bare"], method, bare, body, asked.requests)
        if asked.profile:
            await profile(sides[asked.profile], method, paths[asked.profile], body, asked.requests * asked.rounds)
            continue
        taken: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(asked.rounds):
            for side, app in sides.items():
                taken[side].append(await one_round(app, method, paths[side], body, asked.requests))
        tell(name, {side: 1e6 * min(rounds) for side, rounds in taken.items()})


def tell(name: str, took: dict[str, float]) -> None:
    ratio = took["bare"] / took["ours"]
    print(f"{name:26} {took['ours']:7.0f} µs of the processor over {took['bare']:7.0f} µs: {ratio:.2f} of its rate", flush=True)


async def one_round(app: FastAPI, method: str, path: str, body: bytes, number: int) -> float:
    """Seconds of the processor for one request."""
    began = time.process_time()
    for _ in range(number // AT_ONCE):
        await asyncio.gather(*(request(app, method, path, body) for _ in range(AT_ONCE)))
    return (time.process_time() - began) / (number // AT_ONCE * AT_ONCE)


async def profile(app: FastAPI, method: str, path: str, body: bytes, number: int) -> None:
    """Of the event loop's own thread, which here does what its helpers would do."""

    async def done_here(func: Callable[..., Any], *given: Any, **_: Any) -> Any:
        return func(*given)

    to_thread.run_sync = done_here  # type: ignore[assignment]
    profiler = cProfile.Profile()
    profiler.enable()
    await one_round(app, method, path, body, number)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(80)


async def request(app: FastAPI, method: str, path: str, body: bytes = b"") -> bytes:
    """The answer's body. The scope is what the server makes of a request."""
    address, _, query = path.partition("?")
    headers = [(b"host", b"localhost"), (b"accept", b"*/*"), (b"user-agent", b"a client")]
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": address,
        "raw_path": address.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "state": {},
    }
    answer: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 300:
            raise SystemExit(f"{method} {path} was answered with {message['status']}")
        answer.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(answer)


if __name__ == "__main__":
    main()
