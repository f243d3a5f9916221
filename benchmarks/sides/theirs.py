"""One training by LLaMA-Factory, as benchmarks/peer.py asks for it. Runs under the peer's own Python and imports nothing of ours.

PEER/bin/python benchmarks/sides/theirs.py ASKED.json TOLD.json
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

if os.environ.get("DISABLE_VERSION_CHECK"):  # the peer's own switch, which its ppo needs
    import patched_ppo  # noqa: F401 — beside this file

from llamafactory.train.tuner import run_exp


class Clock(TrainerCallback):
    """Keeps every update's loss with the moment it was told, and the held-out losses by update."""

    def __init__(self) -> None:
        self.updates: list[dict[str, float]] = []
        self.held_out: dict[int, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is not None and "loss" in logs:
            at = {"cpu_seconds": time.process_time(), "wall_seconds": time.perf_counter()}
            told = {"loss": logs["loss"], "tokens": state.num_input_tokens_seen}
            score = {"score": logs["reward"]} if "reward" in logs else {}
            self.updates.append({"update": state.global_step} | told | score | at)
        if logs is not None and "eval_loss" in logs:
            self.held_out[state.global_step] = logs["eval_loss"]


def main() -> None:
    asked_file, told_file = map(Path, sys.argv[1:])
    libraries_bytes = resident_bytes("VmRSS")
    clock = Clock()
    run_exp(json.loads(asked_file.read_text()), [clock])
    memory = {"libraries_bytes": libraries_bytes, "peak_bytes": resident_bytes("VmHWM")}
    told_file.write_text(json.dumps({"updates": clock.updates, "held_out": clock.held_out} | memory))


def resident_bytes(row: str) -> int:
    """VmRSS: what this process holds; VmHWM: the most that it ever did. Not getrusage's, which begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{row}:"))


if __name__ == "__main__":
    main()
