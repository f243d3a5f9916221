"""`python -m tests.fuzz`: asks the service as many times as it is told to, with every key, and says what is wrong.

The seed is printed; with the same one it draws the same requests. What answers hold, and so what is asked after them, has ids and
times that are new every time.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from tests import servers
from tests.fuzz.fuzzing import Found, Watched, at_the_borders, in_chains
from tests.fuzz.world import KEYS, a_world

# Requests in chains from one seed: what is drawn later is close to what was drawn before.
AT_A_TIME = 250


def main(arguments: list[str]) -> int:
    asked = _read(arguments)
    print(f"seed {asked.seed}: at least {asked.requests} requests, for {asked.seconds:g} s at most", flush=True)
    logging.disable(logging.CRITICAL)  # the service's own lines of what was wrong with each request
    began_at = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="fb-fuzz-") as folder,
        _database(asked.database) as database,
        a_world(Path(folder), database) as world,
    ):
        watched = Watched(world.app)
        until = time.monotonic() + asked.seconds
        for asked_by in KEYS:
            at_the_borders(watched, world, asked_by, asked.seed, until - time.monotonic())
            print(f"at the borders, as {asked_by}: {watched.found.requests} requests so far", flush=True)
        until_requests = watched.found.requests + max(asked.chained, asked.requests - watched.found.requests)
        for number, asked_by in enumerate(cycle(KEYS)):
            if watched.found.requests >= until_requests or time.monotonic() > until:
                break
            in_chains(watched, world, asked_by, asked.seed + number, AT_A_TIME, until - time.monotonic())
        print(f"in chains: {watched.found.requests} requests so far", flush=True)
    print(told(watched.found, time.monotonic() - began_at))
    if watched.found.requests < asked.requests:
        print(f"The time was up after {watched.found.requests} requests of {asked.requests}: allow more --seconds.")
    return int(bool(watched.found.wrong) or watched.found.requests < asked.requests)


@contextmanager
def _database(named: str) -> Iterator[str | None]:
    """Its URL; None for SQLite in the folder of the world."""
    if named == "postgresql":
        with servers.postgresql() as url:
            yield url
    else:
        yield None if named == "sqlite" else named


def told(found: Found, seconds: float) -> str:
    """The report."""
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(found.statuses.items()))
    lines = [f"{found.requests} requests in {seconds:.0f} s: {statuses}"]
    if found.unanswered:
        lines.append(f"never answered well: {', '.join(found.unanswered)}")
    return "\n".join([*lines, *found.wrong, f"{len(found.wrong)} faults"])


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--chained", type=int, default=5000, help="of them at least so many in chains")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    where = "sqlite, postgresql (a server of its own, gone afterwards), or SQLAlchemy's URL of an empty database"
    parser.add_argument("--database", default="sqlite", help=where)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
