"""What counting a request for Prometheus costs the processor, beside the request id that every request is given anyway.

python benchmarks/middleware_cpu.py [--rounds 20000]
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: E402

from service.api.prometheus import Counted, Exposition  # noqa: E402
from service.api.request_id import RequestId  # noqa: E402

ROUTE = SimpleNamespace(path="/jobs/{job_id}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20_000)
    rounds = parser.parse_args().rounds
    counted = Counted(_answers, Exposition(None))  # type: ignore[arg-type]
    sides: dict[str, ASGIApp] = {"nothing": _answers, "counted": counted, "request id": RequestId(_answers)}
    taken = {name: min(seconds(side, rounds) for _ in range(5)) for name, side in sides.items()}
    for name, took in taken.items():
        print(f"{name:12} {1e6 * took:6.2f} µs, {1e6 * (took - taken['nothing']):6.2f} µs of its own", flush=True)


async def _answers(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"] = ROUTE
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _nowhere(message: Any) -> None:
    return


def seconds(side: ASGIApp, rounds: int) -> float:
    """Of the processor, for one request."""

    async def run() -> float:
        began = time.thread_time()
        for _ in range(rounds):
            scope = {"type": "http", "method": "GET", "path": "/jobs/1", "headers": [], "state": {}}
            await side(scope, _nowhere, _nowhere)  # type: ignore[arg-type]
        return (time.thread_time() - began) / rounds

    return asyncio.run(run())


if __name__ == "__main__":
    main()
