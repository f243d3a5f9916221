"""One training by our own pipeline, as benchmarks/peer.py asks for it: the work of a worker's child, on a pipe that keeps time.

python benchmarks/sides/ours.py ASKED.json TOLD.json
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

# torch takes it along where it is there, and on a CPU only our tests install it
sys.modules["triton"] = None  # type: ignore[assignment]

from service.specs import flat  # noqa: E402
from service.specs.read import read_job  # noqa: E402
from worker.pipeline import run as run_pipeline  # noqa: E402
from worker.run import Run  # noqa: E402
from worker.work import Work  # noqa: E402


class Clock:
    """The pipe to a supervisor: keeps every update's loss with the moment it was told, and the held-out losses by update."""

    def __init__(self) -> None:
        self.updates: list[dict[str, float]] = []
        self.held_out: dict[int, float] = {}

    def send_bytes(self, buf: bytes) -> None:
        at = {"cpu_seconds": time.process_time(), "wall_seconds": time.perf_counter()}
        message = json.loads(buf)
        if message["message"] == "points":
            values = message["values"]
            told = {name: values[name] for name in ("loss", "tokens", "score") if name in values}
            self.updates.append({"update": message["global_step"]} | told | at)
        for row in message.get("metrics", ()):
            if row["measure"] == "cross_entropy":
                self.held_out[row["global_step"] or 0] = row["value"] * math.log(2)


def main() -> None:
    asked_file, told_file = map(Path, sys.argv[1:])
    libraries_bytes = resident_bytes("VmRSS")
    asked = json.loads(asked_file.read_text())
    clock = Clock()
    run_pipeline(work(asked), Run(clock, Path(asked["folder"])))
    memory = {"libraries_bytes": libraries_bytes, "peak_bytes": resident_bytes("VmHWM")}
    told_file.write_text(json.dumps({"updates": clock.updates, "held_out": clock.held_out} | memory))


def work(asked: dict[str, Any]) -> Work:
    nested, _, refused, _ = flat.nest(asked["arguments"])
    assert not refused, refused
    return Work(
        job_id="ours",
        attempt=1,
        job=read_job(nested | asked["more"]).resolved.model_dump(mode="json"),
        artifacts_root=asked["folder"],
        models_root=asked["models_root"],
        datasets_root=asked["datasets_root"],
        exports_root=asked["folder"],
        cache_root=asked["folder"],
        hub=False,
        modelscope=False,
        device=None,
        threads=1,
        lease_seconds=60,
    )


def resident_bytes(row: str) -> int:
    """VmRSS: what this process holds; VmHWM: the most that it ever did. Not getrusage's, which begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{row}:"))


if __name__ == "__main__":
    main()
