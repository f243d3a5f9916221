"""The commands of the pages in docs/how-to, run in a checkout of their own with a `docker` that starts processes.

`docker` here is a few lines that ask the test what to do: `up`, `stop` and `down` are done by its Stack, `exec` and `run` come
back as the command and the environment that a container would have had.
"""

import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.containers import ROOT, Stack, read_dotenv

TRACKED = ("Makefile", "Dockerfile", "docker-compose.yml", "docker-compose.cluster.yml", "constraints.txt", "pyproject.toml")

DOCKER = """#!{python}
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as test:
    test.connect({socket!r})
    test.sendall(json.dumps([os.getcwd(), *sys.argv[1:]]).encode() + b"\\n")
    answer = json.loads(test.makefile().readline())
print(answer["say"], end="", flush=True)
if "run" in answer:
    os.chdir("/")
    os.execvpe(answer["run"][0], answer["run"], answer["environment"])
sys.exit(answer["code"])
"""


def commands(page: str) -> list[str]:
    """The page's blocks of commands, in order."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@dataclass
class Hosts:
    """Checkouts, each a host of its own, on one network."""

    folder: Path
    stacks: dict[Path, Stack] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def checkout(self, name: str) -> Path:
        """A clone whose origin is a repository of these files, as they are now."""
        origin = self.folder / "origin"
        if not origin.exists():
            origin.mkdir()
            for file in TRACKED:
                shutil.copy(ROOT / file, origin)
            for folder in ("service", "worker", "migrations", "examples"):
                shutil.copytree(ROOT / folder, origin / folder, ignore=shutil.ignore_patterns("__pycache__"))
            (origin / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "backup/\n")
            self.commit(origin, "these files")
        subprocess.run(["git", "clone", "-q", str(origin), str(self.folder / name)], check=True)
        return self.folder / name

    def commit(self, origin: Path, message: str) -> None:
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", message]):
            subprocess.run([*git, *command], cwd=origin, check=True)

    def run(self, checkout: Path, block: str) -> str:
        """Runs a block as it stands on the page, and answers what it printed. Its first command that fails is an error."""
        stack = self.stacks.get(checkout)
        here = block.replace("127.0.0.1:8765", f"127.0.0.1:{stack.ports['api']}") if stack else block
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here], cwd=checkout, env=environment, capture_output=True, text=True, timeout=600
        )
        logs = "\n".join(f"{name}: {stack.log(name)[-1500:]}" for name in stack.processes) if stack else ""
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{logs}"
        return done.stdout

    def stack(self, checkout: Path) -> Stack:
        """The checkout's services, after its .env; of a worker's host, with the first one's ports."""
        dotenv = read_dotenv(checkout / ".env")
        stack = self.stacks.get(checkout)
        if stack is None or stack.dotenv != dotenv:
            if os.getuid() == 0:  # in a box a process is whoever runs the tests, under another number
                subprocess.run(["chown", "-R", "0:0", dotenv["FINEBITS_ARTIFACTS"]], check=True)
            folder = self.folder / f"s-{checkout.name}"
            shutil.rmtree(folder / "bin", ignore_errors=True)
            folder.mkdir(exist_ok=True)
            new = Stack(folder, dotenv | {"COMPOSE_PROFILES": "cpu"})
            new.dotenv = dotenv
            first = stack or next(iter(self.stacks.values()), None)
            if first is not None:
                new.ports = first.ports
            if stack is not None:
                new.processes = stack.processes
            self.stacks[checkout] = new
        return self.stacks[checkout]

    def answer(self, checkout: Path, words: list[str]) -> dict[str, Any]:
        assert words[0] == "compose", words
        verb, *rest = words[1:]
        names = [word for word in rest if not word.startswith("-")]
        stack = self.stack(checkout)
        if verb == "exec" or verb == "run":
            service = names[0]
            command = stack.boxed(service, rest[rest.index(service) + 1 :])
            server = {"PGHOST": str(stack.place("postgres", "/var/lib/postgresql")), "PGPORT": str(stack.ports["postgres"])}
            environment = stack.environment(service) | {"FINEBITS_URL": stack.url} | (server if service == "postgres" else {})
            return {"say": "", "run": command, "environment": environment}
        if verb == "up":
            for name in names if "--no-deps" in rest else ():
                stack.start(name)
            if "--no-deps" not in rest:
                stack.up(*names)
            for name in names if "--wait" in rest else ():
                stack.wait_until_healthy(name)
        elif verb in ("stop", "down"):
            stack.stop(*names)
        elif verb == "logs":
            return {"say": stack.log(names[-1]), "code": 0}
        elif verb == "ps":
            return {"say": "\n".join(stack.processes) + "\n", "code": 0}
        else:
            assert verb == "build", words
        return {"say": "", "code": 0}


@contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """Hosts whose `docker` is answered until the block ends."""
    made = Hosts(folder)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            checkout, *words = json.loads(self.rfile.readline())
            with made.lock:
                try:
                    answer = made.answer(Path(checkout), words)
                except Exception as error:
                    answer = {"say": f"{type(error).__name__}: {error}\n", "code": 1}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    (folder / "bin").mkdir()
    (folder / "bin" / "docker").write_text(DOCKER.format(python=sys.executable, socket=str(folder / "d")))
    (folder / "bin" / "docker").chmod(0o755)
    (folder / "bin" / "scp").write_text(f'#!/bin/sh\nexec cp "$(echo "$1" | sed "s|^10.0.0.1:|{folder}/|")" "$2"\n')
    (folder / "bin" / "scp").chmod(0o755)
    server = socketserver.ThreadingUnixStreamServer(str(folder / "d"), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        for stack in reversed(list(made.stacks.values())):
            stack.end()
