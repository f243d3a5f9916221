"""A worker whose training is a stub of no time, for start_latency.py; in the same process a task of bare Celery.

The task gets the moment at which it was sent, and puts the seconds since then into the list `bare` of the broker.
"""

import multiprocessing
import time
from typing import Any

import orjson
import redis
from celery import Celery

from worker import __main__ as worker_main
from worker import tasks, warm
from worker.settings import WorkerSettings

BARE = "bare"


class Done(warm.Child):
    """A child that has succeeded as soon as it is there."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        theirs.send_bytes(orjson.dumps({"message": "outcome", "outcome": "succeeded"}))

    def exit_code(self) -> int | None:
        return 0

    def kill(self) -> None:
        """It is over."""

    def wait(self, seconds: float) -> bool:
        return True

    def close(self) -> None:
        self.pipe.close()


def connect(app: Celery, settings: WorkerSettings, *others: Any) -> tasks.Worker:
    """The worker's own, and the bare task beside it."""
    server = redis.Redis.from_url(settings.broker_url.replace("redis+socket://", "unix://"))

    def bare(sent_at: float) -> None:
        server.rpush(BARE, time.time() - sent_at)

    app.task(name=BARE, ignore_result=True)(bare)
    return tasks.connect(app, settings, *others)


if __name__ == "__main__":
    warm.warm_up = warm.wait_until_warm = lambda: None
    warm.start = lambda document: Done()
    worker_main.connect = connect
    worker_main.main()
