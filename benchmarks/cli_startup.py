"""How long `finebits` takes before it does anything, beside a Python that does nothing.

python benchmarks/cli_startup.py [--rounds 15]

The least of the rounds each, taken in turns, so that whatever else the machine does meets all of them alike: by the clock, and of
the processor alone, which says the same on a busy machine. An installed `finebits` imports what is run here as a module.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SIDES = {
    "python -c pass": ("-c", "pass"),
    "import typer": ("-c", "import typer"),
    "finebits version": ("-m", "service.cli", "version"),
    "finebits --help": ("-m", "service.cli", "--help"),
    "finebits jobs --help": ("-m", "service.cli", "jobs", "--help"),
    "finebits jobs, no service": ("-m", "service.cli", "--url", "no-address", "jobs"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, arguments in SIDES.items():
            taken[name].append(seconds(arguments))
    least = {name: tuple(map(min, zip(*times, strict=True))) for name, times in taken.items()}
    for name, (clock, processor) in least.items():
        ratio = processor / least["python -c pass"][1]
        print(
            f"{name:26} {1e3 * clock:5.0f} ms, of the processor {1e3 * processor:5.0f} ms, {ratio:4.1f} × python -c pass",
            flush=True,
        )


def seconds(arguments: tuple[str, ...]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    clock, uses = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, uses.ru_utime + uses.ru_stime - used.ru_utime - used.ru_stime


if __name__ == "__main__":
    main()
