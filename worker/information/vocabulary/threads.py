"""Rows shared out among a few threads, each with its own buffers, on which torch's operations run on one thread each.

torch would rather split every operation among its threads, and wait for all of them after each: on tiles that fit a cache those
waits cost more than the work, and on a busy machine many times more. Its operations release the GIL, so whole tiles can be
given to Python's threads instead, which wait for one another once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import TracebackType

import torch

from worker.information.vocabulary.tiles import Buffers

MOST = 8  # beyond that they would wait for the GIL


class Threads:
    """`with Threads(...) as threads: threads.over(N, rows, work)` calls work(rows start to stop, buffers) until all are done."""

    def __init__(self, buffers: Callable[[], Buffers], device: torch.device | None) -> None:
        """device: where torch works; None where it does not, and so neither buffers nor threads are needed."""
        count = 0 if device is None else min(torch.get_num_threads(), MOST) if device.type == "cpu" else 1
        self._buffers = [buffers() for _ in range(count)]
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Threads":
        count = len(self._buffers)
        if count < 2:
            return self
        self._pool, ready, before = ThreadPoolExecutor(count), Barrier(count), torch.get_num_threads()
        # torch's setting is of the calling thread, and of those that begin later: hence the second call, here
        for begun in [self._pool.submit(_alone, ready) for _ in range(count)]:
            begun.result()
        torch.set_num_threads(before)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def over(self, N: int, rows: int, work: Callable[[slice, Buffers], None]) -> None:
        blocks = iter([slice(start, min(start + rows, N)) for start in range(0, N, rows)])
        if self._pool is None:
            return _work_off(blocks, work, self._buffers[0])
        for done in [self._pool.submit(_work_off, blocks, work, buffers) for buffers in self._buffers]:
            done.result()


def _alone(ready: Barrier) -> None:
    torch.set_num_threads(1)
    ready.wait()


@torch.no_grad()  # torch keeps it by thread
def _work_off(blocks: Iterator[slice], work: Callable[[slice, Buffers], None], buffers: Buffers) -> None:
    for block in blocks:  # taken by whichever thread is free: a list's iterator hands each out once
        work(block, buffers)
