"""Stand-ins for the API and the worker, as programs: `python stand_ins.py api --host H --port P`, `python stand_ins.py worker`.

The worker takes a moment to end, as one with a checkpoint to write, and has a child of its own.
`HOME/worker.txt` tells its story.
"""

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn
from urllib.request import urlopen

API = (sys.executable, __file__, "api")
WORKER = (sys.executable, __file__, "worker")
STUBBORN_WORKER = (sys.executable, __file__, "stubborn-worker")
DYING_WORKER = (sys.executable, "-c", "import sys, time; time.sleep(1); print('no such model'); sys.exit(7)")
DYING_API = (sys.executable, "-c", "import sys; print('cannot bind'); sys.exit(3)")


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def api(port: int) -> None:
    HTTPServer(("127.0.0.1", port), Ready).serve_forever()


def worker(stubborn: bool) -> None:
    story = Path(os.environ["FINEBITS_HOME"], "worker.txt")
    child = subprocess.Popen(["sleep", "600"])

    def end(*_: object) -> NoReturn:
        with story.open("a") as opened:
            opened.write("told to end\n")
        time.sleep(600 if stubborn else 0.3)
        with urlopen(f"http://127.0.0.1:{os.environ['FINEBITS_PORT']}"), story.open("a") as opened:
            opened.write("checkpoint written\n")  # while the API still answers
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    story.write_text(f"{child.pid} {os.environ['FINEBITS_BROKER_URL']}\n")  # from here on it ends well
    while True:
        time.sleep(1)


if __name__ == "__main__":
    if sys.argv[1] == "api":
        api(int(sys.argv[sys.argv.index("--port") + 1]))
    else:
        worker(sys.argv[1] == "stubborn-worker")
