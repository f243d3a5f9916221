"""The fork server on a host with a GPU, which is played here: what is loaded must not touch CUDA, or no child could use it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from worker import stack
from worker.nvml import Nvml

# A host with two GPUs, the second of which alone is visible. What begins CUDA is noted, and fails.
LOAD = """
import json, sys, traceback
from types import ModuleType

import torch

touched, asked = [], []

def begin():
    touched.append("".join(traceback.format_stack(limit=6)))
    raise RuntimeError("CUDA was begun")

torch.cuda.is_available, torch.cuda.device_count, torch.version.cuda = (lambda: True), (lambda: 1), "13.0"
torch.cuda._lazy_init = begin
torch.cuda.get_device_capability = lambda device=None: begin()
own = torch.cuda.get_device_capability
torch._C._cuda_getCurrentRawStream = lambda device: 0  # which a build for processors has not

driver = ModuleType("pynvml")
driver.nvmlInit = lambda: None
driver.nvmlDeviceGetHandleByIndex = lambda index: asked.append(index)
driver.nvmlDeviceGetCudaComputeCapability = lambda handle: [9, 0]
sys.modules["pynvml"] = driver

import worker.stack
import bitsandbytes.cextension

print(json.dumps({
    "touched": touched,
    "asked": asked,
    "backend": bitsandbytes.cextension.BNB_BACKEND,
    "given back": torch.cuda.get_device_capability is own,
}))
"""

# The server of a worker whose stack has touched CUDA, and one child.
START = """
import json
from worker import warm

if __name__ == "__main__":
    warm.PRELOAD = [{preloaded!r}]
    warm.warm_up()
    warm.wait_until_warm()
    child = warm.start({{"job_id": "job-1"}})
    print(json.dumps(type(child._process).__name__))
    child.kill()
    child.wait(60)
"""


def run(script: Path, **environment: str) -> Any:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_stack_is_loaded_for_a_gpu_and_touches_none(tmp_path: Path) -> None:
    (tmp_path / "load.py").write_text(LOAD)
    found, _ = run(tmp_path / "load.py", CUDA_VISIBLE_DEVICES="1")
    assert found["touched"] == []
    assert found["backend"] == "CUDA", "bitsandbytes was told that there is a GPU"
    assert found["asked"] == [1], "it has asked for what it can, and the visible one is the driver's second"
    assert found["given back"]


@pytest.mark.parametrize(("preloaded", "started"), [("tests.worker.touching", "SpawnProcess"), ("torch", "ForkServerProcess")])
def test_where_cuda_was_touched_after_all_each_child_is_a_new_process(tmp_path: Path, preloaded: str, started: str) -> None:
    (tmp_path / "start.py").write_text(START.format(preloaded=preloaded))
    found, said = run(tmp_path / "start.py")
    assert found == started
    assert ("a library has touched CUDA as it was loaded" in said) is (started == "SpawnProcess")


def test_without_the_driver_s_library_torch_is_asked_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.cuda.get_device_capability
    monkeypatch.setattr(stack, "open_nvml", lambda: None)
    with stack.told_by_the_driver():
        assert torch.cuda.get_device_capability is own


@pytest.mark.parametrize(
    ("visible", "device", "asked"),
    [
        (None, None, "0"),
        (None, torch.cuda.device(1), "1"),
        (None, 1, "1"),
        ("GPU-b,GPU-a", torch.device("cuda", 1), "GPU-a"),
        ("3, 2", "cuda:1", "2"),
    ],
)
def test_a_device_is_the_driver_s_by_what_is_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: Any, asked: str
) -> None:
    class Driver(Nvml):
        def __init__(self) -> None:
            pass

        def handle(self, device: str) -> Any:
            return device

        def compute_capability(self, handle: Any) -> tuple[int, int]:
            return {asked: (8, 6)}[handle]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(stack, "open_nvml", Driver)
    with stack.told_by_the_driver():
        assert torch.cuda.get_device_capability(device) == (8, 6)
