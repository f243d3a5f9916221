"""What the workers of a queue have reported: whether a job could ever begin on one of them."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from service.store import slots, workers
from service.store.need import Need


@dataclass(frozen=True)
class Room:
    """What each worker of a queue has: the memory of each GPU, or None. Those that are gone count: they may come back.

    `extras` are of those that said what is installed there. `elsewhere` are the other queues that workers listen on.
    """

    gpus: dict[str, tuple[int | None, ...]]
    extras: dict[str, frozenset[str]] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()

    @property
    def most_gpus(self) -> int:
        return max(map(len, self.gpus.values()), default=0)

    def largest_bytes(self, n_gpus: int = 1) -> int | None:
        """The most memory that so many GPUs of one worker all have; None where that is not known, or there are not so many."""
        known = [sorted((size for size in sizes if size is not None), reverse=True) for sizes in self.gpus.values()]
        if any(size is None for sizes in self.gpus.values() for size in sizes):
            return None
        return max((sizes[n_gpus - 1] for sizes in known if len(sizes) >= n_gpus), default=None)

    def lacks(self, need: Need) -> str | None:
        """Why no worker could ever begin it; None where one could, or where none has reported yet."""
        if not self.gpus or need.gpus <= self.most_gpus:
            return None
        return f"No worker of this queue has {_gpus(need.gpus)}; there {self.told()}."

    def without(self, extra: str) -> list[str]:
        """The workers that are known not to have it, by name."""
        return sorted(name for name, installed in self.extras.items() if extra not in installed)

    def could_have(self, extras: Collection[str]) -> bool:
        """Whether one worker may have them all: what one has that did not say is not known."""
        return any(set(extras) <= self.extras.get(name, set(extras)) for name in self.gpus)

    def told(self) -> str:
        """ "are host-a with 2 GPUs and host-b with none" """
        there = [f"{name} with {_gpus(len(sizes))}" for name, sizes in sorted(self.gpus.items())]
        return ("is " if len(there) == 1 else "are ") + " and ".join([", ".join(there[:-1]), there[-1]] if there[:-1] else there)


def of_queue(session: Session, queue: str) -> Room:
    known = workers.known(session)
    there = [worker for worker in known if queue in worker.queues]
    own = slots.of_workers(session, [worker.name for worker in there])
    return Room(
        gpus={worker.name: tuple(slot.memory_bytes for slot in own[worker.name] if slot.device is not None) for worker in there},
        extras={worker.name: frozenset(worker.extras) for worker in there if worker.extras is not None},
        elsewhere=tuple(sorted({name for worker in known for name in worker.queues} - {queue})),
    )


def _gpus(number: int) -> str:
    return {0: "none", 1: "1 GPU"}.get(number, f"{number} GPUs")
