"""What a job needs of a worker, as its row says it and as a worker's slots can give it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.specs.resources import Resources
from service.store.tables import Slot

WHOLE = 1000  # thousandths of a slot
ANY_GPUS = -1  # one where the worker has one, else none


@dataclass(frozen=True)
class Need:
    """How many GPUs, how much of each, and how many GB of memory each must have (0: not known)."""

    gpus: int = ANY_GPUS
    permille: int = WHOLE
    gb: int = 0

    @property
    def columns(self) -> dict[str, int]:
        """As the job's row has it."""
        return {"gpus": self.gpus, "gpu_permille": self.permille, "gpu_gb": self.gb}

    def places(self, slots: Sequence[Slot], sharing: bool) -> list[Slot] | None:
        """The slots that it would take of those, with what is free of them; None where they are not enough."""
        if self.gpus_of(slots) == 0:
            return next(([slot] for slot in slots if slot.device is None and slot.used_permille == 0), None)
        part = self.part(sharing)
        free = [slot for slot in slots if self.could_use(slot, sharing) and slot.used_permille + part <= WHOLE]
        free.sort(key=lambda slot: (-slot.used_permille, slot.position))  # parts go together: whole GPUs stay for who needs one
        n_gpus = self.gpus_of(slots)
        return free[:n_gpus] if len(free) >= n_gpus else None

    def could_ever(self, slots: Sequence[Slot], sharing: bool) -> bool:
        """Whether they would be enough if nothing else ran."""
        if self.gpus_of(slots) == 0:
            return any(slot.device is None for slot in slots)
        return sum(self.could_use(slot, sharing) for slot in slots) >= self.gpus_of(slots)

    def gpus_of(self, slots: Sequence[Slot]) -> int:
        """How many GPUs it takes of a worker with those slots."""
        if self.gpus != ANY_GPUS:
            return self.gpus
        return 1 if any(slot.device is not None for slot in slots) else 0

    def part(self, sharing: bool) -> int:
        """Thousandths of each GPU: the whole where its operator does not let jobs share."""
        return self.permille if sharing else WHOLE

    def could_use(self, slot: Slot, sharing: bool) -> bool:
        """Whether the slot is a GPU in order whose memory, or the job's part of it, is enough."""
        if slot.device is None or slot.trouble is not None:
            return False
        return slot.memory_bytes is None or self.gb * 1e9 <= slot.memory_bytes * self.part(sharing) / WHOLE


def need_of(resources: Resources, least_gpu_bytes: int = 0) -> Need:
    gpus = ANY_GPUS if resources.gpus is None else resources.gpus
    return Need(gpus, max(1, round(WHOLE * resources.gpu_memory_fraction)), math.floor(least_gpu_bytes / 1e9))
