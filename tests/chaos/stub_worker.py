"""`python -m tests.chaos.stub_worker`: the real worker, whose children do known work; and what a test may do to it.

--without-fence      takes the fence out: any writer passes who names a job that runs
--clock-ahead N      this process's clock is N seconds ahead of everybody's
"""

import argparse
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-fence", action="store_true")
    parser.add_argument("--clock-ahead", type=float, default=0.0)
    asked = parser.parse_args()
    if asked.clock_ahead:
        _put_clock_ahead(asked.clock_ahead)
    if asked.without_fence:
        _take_the_fence_out()
    from worker import warm

    warm.PRELOAD = ["tests.chaos.stub_preload"]
    from worker.__main__ import main as work

    work()


def _put_clock_ahead(seconds: float) -> None:
    true = time.time
    time.time = lambda: true() + seconds


def _take_the_fence_out() -> None:
    import importlib
    import pkgutil

    import service.store
    from service.store.states import State
    from service.store.tables import Job

    def open_to_all(held: Any) -> tuple[Any, ...]:
        return (Job.id == held.job_id, Job.state == State.RUNNING)

    for found in pkgutil.iter_modules(service.store.__path__, "service.store."):
        module = importlib.import_module(found.name)
        for name in ("_fence", "fence"):
            if hasattr(module, name):
                setattr(module, name, open_to_all)


if __name__ == "__main__":
    main()
