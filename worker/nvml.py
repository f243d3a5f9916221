"""What we ask of NVIDIA's driver, without CUDA.

The library (nvidia-ml-py) is loaded when it is first needed; a host without a GPU does not need it.
"""

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Process:
    """A process that computes on a GPU. `memory_bytes` is None where the driver does not say."""

    pid: int
    memory_bytes: int | None


class Nvml:
    """The few questions that we ask of NVML: a seam, so that tests can answer them."""

    def __init__(self) -> None:
        self._nvml: Any = import_module("pynvml")
        self._nvml.nvmlInit()

    def handle(self, device: str) -> Any:
        """By number or by UUID, as CUDA_VISIBLE_DEVICES has it."""
        if device.isdecimal():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(device))
        return self._nvml.nvmlDeviceGetHandleByUUID(device)

    def uuid(self, handle: Any) -> str:
        return str(self._nvml.nvmlDeviceGetUUID(handle))

    def name(self, handle: Any) -> str:
        return str(self._nvml.nvmlDeviceGetName(handle))

    def memory(self, handle: Any) -> tuple[int, int]:
        """(all, used), in bytes."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return int(memory.total), int(memory.used)

    def temperature(self, handle: Any) -> int:
        """In degrees Celsius."""
        return int(self._nvml.nvmlDeviceGetTemperature(handle, self._nvml.NVML_TEMPERATURE_GPU))

    def utilization(self, handle: Any) -> int:
        """In percent of the last moments in which something ran."""
        return int(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    def compute_capability(self, handle: Any) -> tuple[int, int]:
        major, minor = self._nvml.nvmlDeviceGetCudaComputeCapability(handle)
        return int(major), int(minor)

    def processes(self, handle: Any) -> list[Process]:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return [Process(int(process.pid), process.usedGpuMemory) for process in running]


def open_nvml() -> Nvml | None:
    """None where there is no library, or no driver for it."""
    try:
        return Nvml()
    except Exception as error:  # its errors are classes of a module that may not be there
        logger.info("GPUs are not read: %s", error)
        return None
