"""How long `finebits` takes before it does anything, beside a Python that does nothing; and to list the jobs of a service that
answers at once.

python benchmarks/cli_startup.py [--rounds 15]

The least of the rounds each, taken in turns, so that whatever else the machine does meets all of them alike: by the clock, and of
the processor alone, which says the same on a busy machine. An installed `finebits` imports what is run here as a module.
"""

import argparse
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SIDES = {
    "python -c pass": ("-c", "pass"),
    "import typer": ("-c", "import typer"),
    "finebits --help": ("-m", "service.cli", "--help"),
    "finebits version": ("-m", "service.cli", "version"),
    "finebits jobs --help": ("-m", "service.cli", "jobs", "--help"),
    "finebits jobs": ("-m", "service.cli", "--url", "{url}", "jobs"),
}


class NoJobs(BaseHTTPRequestHandler):
    """A service that has none."""

    def do_GET(self) -> None:
        body = b'{"data": [], "has_more": false}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    with ThreadingHTTPServer(("127.0.0.1", 0), NoJobs) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for _ in range(rounds):
            for name, arguments in SIDES.items():
                url = f"http://127.0.0.1:{server.server_port}"
                taken[name].append(seconds([argument.format(url=url) for argument in arguments]))
        server.shutdown()
    least = {name: tuple(map(min, zip(*times, strict=True))) for name, times in taken.items()}
    for name, (clock, processor) in least.items():
        ratio = processor / least["python -c pass"][1]
        print(
            f"{name:22} {1e3 * clock:5.0f} ms, of the processor {1e3 * processor:5.0f} ms, {ratio:4.1f} × python -c pass",
            flush=True,
        )


def seconds(arguments: list[str]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    clock, uses = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, uses.ru_utime + uses.ru_stime - used.ru_utime - used.ru_stime


if __name__ == "__main__":
    main()
