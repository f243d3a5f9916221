"""The processes of one attempt, one for each of its GPUs, and what they agree on. Alone, a process agrees with itself.

The first, rank 0, speaks for all: up the pipe, and on what is to be done next. What it does alone the others wait for, however
long that takes; what all compute together has `HUNG_SECONDS`, after which one that does not come is taken for hung. One that has
died is not waited for: the launcher sees it, and ends the others (worker/launching.py).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Found = TypeVar("Found")

HUNG_SECONDS = 1800.0
PATIENT = timedelta(days=30)
VERDICT_SECONDS = 10.0  # in which the launcher ends those whose peer has died

# What gloo and NCCL say of a peer that has gone or does not come: they raise RuntimeError, and their own kinds of it.
NO_PEER = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "remote process exited", "Timed out waiting")

_patient: dist.ProcessGroup | None = None  # on the CPU, so that no GPU is kept busy with waiting


def join(backend: str, meeting: Path, rank: int, n_ranks: int) -> None:
    """Meets the others by a file. `backend` is that of the tensors that are computed together."""
    global _patient
    store = dist.FileStore(str(meeting), n_ranks)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=n_ranks, timeout=timedelta(seconds=HUNG_SECONDS))
    _patient = dist.new_group(backend="gloo", timeout=PATIENT)


def part() -> None:
    """Once all are done. One that fails just ends."""
    global _patient
    if _patient is None:
        return
    dist.barrier(group=_patient)
    _patient = None
    dist.destroy_process_group()


def n_ranks() -> int:
    return dist.get_world_size() if _patient is not None else 1


def rank() -> int:
    return dist.get_rank() if _patient is not None else 0


def is_first() -> bool:
    return rank() == 0


def agreed(find: Callable[[], Found]) -> Found:
    """What the first finds, by all of them. Where that raises the first ends, and the launcher ends the others."""
    if _patient is None:
        return find()
    found: list[Any] = [find() if is_first() else None]
    dist.broadcast_object_list(found, src=0, group=_patient)
    answer: Found = found[0]
    return answer


def of_all(value: Found) -> list[Found]:
    """Everyone's, by rank."""
    if _patient is None:
        return [value]
    values: list[Any] = [None] * n_ranks()
    dist.all_gather_object(values, value, group=_patient)
    return values


def own(items: Sequence[Found]) -> Sequence[Found]:
    """This rank's part of what all have, dealt out one by one."""
    return items[rank() :: n_ranks()]


def gathered(dealt: Sequence[Found]) -> list[Found]:
    """What has been made of each of the items that were dealt out, in their order. All had as many."""
    return [item for turn in zip(*of_all(list(dealt)), strict=True) for item in turn]


def averaging(module: torch.nn.Module) -> torch.nn.Module:
    """The module, whose gradients after a backward pass of a loss of its forward pass are the mean of all ranks' (DDP)."""
    if _patient is None:
        return module
    return torch.nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)


def to_itself(module: torch.nn.Module) -> AbstractContextManager[object]:
    """While a rank adds to the gradients of a module that is to average them later."""
    return module.no_sync() if isinstance(module, torch.nn.parallel.DistributedDataParallel) else nullcontext()


def meet() -> None:
    """Goes on when all are here."""
    if _patient is not None:
        dist.barrier(group=_patient)


def draw_apart(seed: int) -> None:
    """Has each draw noise of its own from here on, such as dropout: the first what a process alone would."""
    if not is_first():
        torch.manual_seed(seed + rank())


def is_about_a_peer(error: BaseException) -> bool:
    """Whether an exception only says that another rank has gone or does not come."""
    if n_ranks() == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(text in str(error) for text in NO_PEER)


def await_verdict() -> None:
    """Whoever died first is the reason, and those that miss it say nothing: the launcher ends them meanwhile."""
    time.sleep(VERDICT_SECONDS)
