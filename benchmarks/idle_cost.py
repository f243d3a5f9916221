"""What the service costs while nobody uses it: the API and its workers, on PostgreSQL.

    python benchmarks/idle_cost.py [--seconds 60] [--workers 10]

Of each process tree: the share of a core, and the memory that is its own (USS). Of the database: statements a second, from its
own log, over those of a bare process that polls once a second. The workers are real ones and start one after another, each when
the one before has loaded its libraries and is idle, which takes some seconds of a core each.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine, make_url, text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from service.store import schema  # noqa: E402
from service.store.session import Database  # noqa: E402
from tests import servers  # noqa: E402

SETTLE_SECONDS = 10  # after the last has come
LOOK_SECONDS = 2.0
IDLE_SHARE = 0.25  # of a core: a fork server that imports its libraries takes a whole one, where it gets it
LOADED_BYTES = 150e6  # what a tree has of its own that has imported them
MOST_SECONDS = 300  # for one to come


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    seconds, names = asked.seconds, [f"worker-{number}" for number in range(asked.workers)]
    with (
        tempfile.TemporaryDirectory(prefix="fb-idle-") as home,
        servers.postgresql(fsync=True) as url,
        servers.broker() as broker,
    ):
        database = Database(url)
        schema.upgrade(database)
        database.close()
        log = log_statements(url)
        environment = os.environ | {
            "FINEBITS_HOME": home,
            "FINEBITS_DATABASE_URL": url,
            "FINEBITS_BROKER_URL": broker,
            "PYTHONPATH": str(ROOT),
        }
        api = [sys.executable, "-m", "uvicorn", "--factory", "service.app:from_environment", "--port", "0"]
        with ExitStack() as stack:
            trees = {"API": psutil.Process(stack.enter_context(running(api, environment)))}
            for name in names:
                worker = running([sys.executable, "-m", "worker"], environment | {"FINEBITS_WORKER_NAME": name})
                trees[name] = psutil.Process(stack.enter_context(worker))
                print(f"{name} has loaded its libraries after {seconds_to_load(trees[name]):.0f} s", flush=True)
            print(f"all are there; {seconds:.0f} s are looked at", flush=True)
            time.sleep(SETTLE_SECONDS)
            before, said = {name: cpu_seconds(tree) for name, tree in trees.items()}, statements(log)
            time.sleep(seconds)
            for name, tree in trees.items():
                share = (cpu_seconds(tree) - before[name]) / seconds
                print(f"{name:8} {100 * share:6.2f} % of a core   {own_bytes(tree) / 1e6:7.1f} MB of its own")
            rate = (statements(log) - said) / seconds
            polled = len(trees)
            for tree in trees.values():
                tree.terminate()  # all at once, and then one by one until each has ended
            print(f"database {rate:6.2f} statements/s   over {polled}/s of as many that poll every second = {rate / polled:.2f}")


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # on a busy machine; it has nothing to lose
            process.kill()
            process.wait()


def seconds_to_load(tree: psutil.Process) -> float:
    """Until it has what a loaded one has in memory, and is idle."""
    began = time.monotonic()
    while (seconds := time.monotonic() - began) < MOST_SECONDS:
        before = cpu_seconds(tree)
        time.sleep(LOOK_SECONDS)
        if cpu_seconds(tree) - before < IDLE_SHARE * LOOK_SECONDS and own_bytes(tree) > LOADED_BYTES:
            return seconds
    raise SystemExit(f"A worker has not loaded its libraries after {MOST_SECONDS} s.")


def cpu_seconds(tree: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in (tree, *tree.children(recursive=True)))


def own_bytes(tree: psutil.Process) -> int:
    return sum(int(process.memory_full_info().uss) for process in (tree, *tree.children(recursive=True)))


def log_statements(url: str) -> Path:
    """Has every statement written to the server's log, which lies beside its socket."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET log_statement = 'all'"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
    return Path(str(make_url(url).query["host"]), "log")


def statements(log: Path) -> int:
    return len(re.findall(r"LOG:  (statement|execute)", log.read_text(encoding="utf-8", errors="replace")))


if __name__ == "__main__":
    main()
