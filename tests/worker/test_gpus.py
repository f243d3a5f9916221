"""The GPUs as NVML would tell of them: answered here, at the seam that is ours."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from service.store.workers import Reading, SlotReport
from worker.gpus import Gpus
from worker.nvml import Nvml, Process, open_nvml
from worker.settings import WorkerSettings

GB = 10**9


class FakeNvml(Nvml):
    """Two cards; what each says may be set."""

    def __init__(self) -> None:
        self.running: dict[str, list[Process]] = {"GPU-a": [], "GPU-b": []}
        self.lost: set[str] = set()

    def handle(self, device: str) -> Any:
        uuid = sorted(self.running)[int(device)] if device.isdecimal() else device
        if uuid not in self.running or uuid in self.lost:
            raise RuntimeError("GPU is lost")
        return uuid

    def uuid(self, handle: Any) -> str:
        return str(handle)

    def name(self, handle: Any) -> str:
        return "H100"

    def memory(self, handle: Any) -> tuple[int, int]:
        return 80 * GB, 3 * GB

    def temperature(self, handle: Any) -> int:
        return 61

    def utilization(self, handle: Any) -> int:
        return 97

    def processes(self, handle: Any) -> list[Process]:
        return self.running[handle]


VALUES = {"memory_bytes": 80 * GB, "memory_used_bytes": 3 * GB, "temperature_celsius": 61, "utilization_percent": 97}


def test_gpus_are_slots_by_their_uuid_however_they_are_named() -> None:
    for devices in (("0", "1"), ("GPU-a", "GPU-b")):
        slots = Gpus(devices, FakeNvml()).slots
        assert slots == [SlotReport(uuid, uuid, "H100", 80 * GB) for uuid in ("GPU-a", "GPU-b")]


def test_without_nvml_a_gpu_is_a_slot_of_which_nothing_is_known() -> None:
    gpus = Gpus(("0",), None)
    assert gpus.slots == [SlotReport("0")]
    assert gpus.readings() == {}


def test_processors_that_stand_for_gpus_are_slots_and_nobody_is_asked_about_them() -> None:
    gpus = Gpus(("cpu:0", "cpu:1"), FakeNvml())
    assert gpus.slots == [SlotReport("cpu:0"), SlotReport("cpu:1")]
    assert gpus.readings() == {}


@pytest.mark.parametrize("devices", ["cpu:0,0", "GPU-a,cpu:0"])
def test_they_are_not_mixed_with_gpus(devices: str) -> None:
    with pytest.raises(ValidationError, match="cannot be mixed"):
        WorkerSettings(devices=devices)
    assert WorkerSettings(devices="cpu:0,cpu:1").gpus == ("cpu:0", "cpu:1")


def test_readings_are_by_position() -> None:
    assert Gpus(("1", "0"), FakeNvml()).readings() == {0: Reading(VALUES), 1: Reading(VALUES)}


def test_a_process_on_a_gpu_is_told_the_largest_first() -> None:
    nvml = FakeNvml()
    nvml.running["GPU-b"] = [Process(7, None), Process(8, 12 * GB)]
    reading = Gpus(("0", "1"), nvml).readings()
    assert reading[0].occupied is None
    assert reading[1].occupied == "Process 8, which is no job of this worker, runs on it and holds 12.0 GB."


def test_a_gpu_that_is_lost_is_trouble_and_the_others_go_on() -> None:
    nvml = FakeNvml()
    gpus = Gpus(("0", "1"), nvml)
    nvml.lost = {"GPU-a"}
    assert gpus.readings() == {0: Reading({}, trouble="The GPU cannot be asked: GPU is lost."), 1: Reading(VALUES)}


def test_a_device_that_nvml_does_not_know_is_a_slot_all_the_same() -> None:
    assert Gpus(("MIG-x",), FakeNvml()).slots == [SlotReport("MIG-x")]


def test_the_library_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: f"card {index}",
        nvmlDeviceGetHandleByUUID=lambda uuid: f"card of {uuid}",
        nvmlDeviceGetUUID=lambda handle: f"GPU-{handle}",
        nvmlDeviceGetName=lambda handle: "H100",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * GB, free=77 * GB, used=3 * GB),
        nvmlDeviceGetTemperature=lambda handle, sensor: 61 + sensor,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=97, memory=12),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=8, usedGpuMemory=12 * GB)],
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    nvml = open_nvml()
    assert nvml is not None
    assert Gpus(("0",), nvml).slots == [SlotReport("GPU-card 0", "GPU-card 0", "H100", 80 * GB)]
    assert nvml.handle("GPU-a") == "card of GPU-a"
    assert nvml.processes("card 0") == [Process(8, 12 * GB)]
    assert (nvml.temperature("card 0"), nvml.utilization("card 0")) == (61, 97)


def test_where_there_is_no_driver_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise OSError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=no_driver))
    assert open_nvml() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_nvml() is None
