"""The training stack, loaded without touching CUDA: a process that has touched it can fork none that use it.

bitsandbytes, which peft and so transformers' trainer bring with them, asks every device for its compute capability as it is
loaded (0.50), and torch begins CUDA to tell. Here the driver's library tells, which begins nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from worker.nvml import open_nvml


@contextmanager
def told_by_the_driver() -> Iterator[None]:
    """Inside, torch.cuda.get_device_capability answers without CUDA; where the driver's library is not there, as ever."""
    nvml = open_nvml()
    if nvml is None:
        yield
        return
    own = torch.cuda.get_device_capability

    def capability(device: Any = None) -> tuple[int, int]:
        return nvml.compute_capability(nvml.handle(_visible(_index(device))))

    torch.cuda.get_device_capability = capability
    try:
        yield
    finally:
        torch.cuda.get_device_capability = own


def _index(device: Any) -> int:
    """CUDA's number of a device, in each of the forms that torch takes; the first where none is named."""
    if isinstance(device, torch.cuda.device):
        return int(device.idx)
    if device is None or isinstance(device, int):
        return device or 0
    return torch.device(device).index or 0


def _visible(index: int) -> str:
    """A device by CUDA's number, as the driver knows it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[index].strip() if named else str(index)


with told_by_the_driver():
    from worker.child import main as main
