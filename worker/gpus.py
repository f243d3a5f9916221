"""The host's GPUs as NVML sees them: what they are, and what they read. Without NVML only that they are there."""

import logging
from collections.abc import Sequence

from service.library.space import told
from service.store.workers import Reading, SlotReport
from worker.nvml import Nvml, Process
from worker.settings import is_stand_in

logger = logging.getLogger(__name__)


class Gpus:
    """The GPUs that this worker may use, by position, and the questions that it asks about them."""

    def __init__(self, devices: Sequence[str], nvml: Nvml | None):
        self._nvml = nvml
        self.slots = [self._report(device) for device in devices]

    def readings(self) -> dict[int, Reading]:
        """What each reads now, by position. Nothing where NVML is not there."""
        nvml = self._nvml
        if nvml is None:
            return {}
        told = {position: str(slot.device) for position, slot in enumerate(self.slots)}
        return {position: self._reading(nvml, device) for position, device in told.items() if not is_stand_in(device)}

    def _report(self, device: str) -> SlotReport:
        if self._nvml is None or is_stand_in(device):
            return SlotReport(device)
        try:
            handle = self._nvml.handle(device)
            uuid = self._nvml.uuid(handle)
            # by its UUID from here on: CUDA and NVML may count the same cards in different orders
            return SlotReport(uuid, uuid, self._nvml.name(handle), self._nvml.memory(handle)[0])
        except Exception as error:
            logger.warning("GPU %s cannot be asked: %s", device, error)
            return SlotReport(device)

    def _reading(self, nvml: Nvml, device: str) -> Reading:
        try:
            handle = nvml.handle(device)
            total, used = nvml.memory(handle)
            values = {
                "memory_bytes": total,
                "memory_used_bytes": used,
                "temperature_celsius": nvml.temperature(handle),
                "utilization_percent": nvml.utilization(handle),
            }
            return Reading(values, occupied=_occupied(nvml.processes(handle)))
        except Exception as error:
            return Reading({}, trouble=f"The GPU cannot be asked: {error}.")


def _occupied(processes: Sequence[Process]) -> str | None:
    """An old child that has not ended, or somebody else's: fencing protects data, not a GPU's memory."""
    if not processes:
        return None
    first = max(processes, key=lambda process: process.memory_bytes or 0)
    holding = f" and holds {told(first.memory_bytes)}" if first.memory_bytes else ""
    return f"Process {first.pid}, which is no job of this worker, runs on it{holding}."
