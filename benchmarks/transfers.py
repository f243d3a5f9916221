"""Sending a data set to the service and fetching it back, over a plain file server that does the same.

    python benchmarks/transfers.py [--gigabytes 2] [--rounds 3]

The plain server is Starlette's StaticFiles for GET, and for PUT the least that keeps a file: what comes is written, and is on the
disk before the answer. Ours hashes besides, and makes the file a version of a data set. Both under uvicorn in a process of
their own, in turns; the client sends from and receives into memory, and is the same for both. Memory is the server process's
resident set: the most while it worked, over what it was before.
"""

import argparse
import hashlib
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from api_cost import serving  # noqa: E402

from service.store import schema  # noqa: E402
from service.store.session import Database  # noqa: E402
from tests import servers  # noqa: E402

PIECE = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of each; medians are printed")
    asked = parser.parse_args()
    n_pieces = round(asked.gigabytes * 1e9 / PIECE)
    with tempfile.TemporaryDirectory(prefix="fb-transfers-", dir=os.environ.get("TMPDIR")) as folder, servers.broker() as broker:
        url = f"sqlite:///{folder}/finebits.db"
        database = Database(url)
        schema.upgrade(database)
        database.close()
        os.environ["PLAIN_ROOT"] = folder
        with (
            serving(["service.app:from_environment", "--factory"], url, broker, folder) as ours,
            serving(["benchmarks.plain_files:from_environment", "--factory"], url, broker, folder) as plain,
        ):
            compare(ours, plain, n_pieces, asked.rounds)


def compare(ours: int, plain: int, n_pieces: int, rounds: int) -> None:
    print(f"{n_pieces * PIECE / 1e9:.2f} GB, median of {rounds}", flush=True)
    sent: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    fetched: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for number in range(rounds):
        body = Body(n_pieces, number)
        sent["ours"].append(measured(ours, lambda body=body: send_ours(ours, body)))
        sent["plain"].append(measured(plain, lambda body=body: send(plain, "PUT", "/file.txt", body, {})))
        fetched["ours"].append(measured(ours, lambda body=body: fetch(ours, "/datasets/sent/content", body)))
        fetched["plain"].append(measured(plain, lambda body=body: fetch(plain, "/static/file.txt", body)))
        ask(ours, "DELETE", "/datasets/sent")
    tell("upload", sent, n_pieces)
    tell("download", fetched, n_pieces)


def tell(what: str, sides: dict[str, list[tuple[float, float]]], n_pieces: int) -> None:
    rate = {side: n_pieces * PIECE / 1e6 / statistics.median(seconds for seconds, _ in runs) for side, runs in sides.items()}
    memory = {side: max(more for _, more in runs) / 1e6 for side, runs in sides.items()}
    print(
        f"  {what:9} {rate['ours']:7.0f} MB/s over {rate['plain']:7.0f} MB/s = {rate['ours'] / rate['plain']:.2f}"
        f"    memory {memory['ours']:+.0f} MB and {memory['plain']:+.0f} MB",
        flush=True,
    )


# -- what is sent ----------------------------------------------------------------------------------------------------------


class Body:
    """Lines of text, another in every round: a data set that is there already would not be written."""

    def __init__(self, n_pieces: int, number: int):
        line = f"{number} ".encode() + b"x" * 997 + b"\n"
        self.piece = (line * (PIECE // len(line) + 1))[:PIECE]
        self.n_pieces = n_pieces
        self.size = n_pieces * PIECE
        digest = hashlib.sha256()
        for _ in range(n_pieces):
            digest.update(self.piece)
        self.sha256 = digest.hexdigest()


def send_ours(port: int, body: Body) -> None:
    wanted = {"file_name": "sent.txt", "size": body.size, "sha256": body.sha256}
    opened = ask(port, "POST", "/datasets/sent/uploads", json.dumps(wanted).encode(), {"Content-Type": "application/json"})
    send(port, "PATCH", json.loads(opened)["url"], body, {"Upload-Offset": "0"})


def send(port: int, method: str, path: str, body: Body, headers: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_head(method, path, body.size, headers))
        for _ in range(body.n_pieces):
            connection.sendall(body.piece)
        _answer(connection)


def fetch(port: int, path: str, body: Body) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_head("GET", path, 0, {}))
        left, room = body.size - len(_begun(connection)), bytearray(PIECE)
        while left:
            n_bytes = connection.recv_into(room, min(PIECE, left))
            if not n_bytes:
                raise SystemExit(f"{path} broke off with {left} bytes to come")
            left -= n_bytes


def ask(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_head(method, path, len(body), headers or {}) + body)
        return _answer(connection)


def _head(method: str, path: str, length: int, headers: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in {"Host": "localhost", "Content-Length": length, **headers}.items()]
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}Connection: close\r\n\r\n".encode()


def _begun(connection: socket.socket) -> bytes:
    """What has come of the body with its head."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            raise SystemExit("no answer")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    if head[9:10] != b"2":
        raise SystemExit(f"answered with {head.splitlines()[0]!r}: {rest[:300]!r}")
    return rest


def _answer(connection: socket.socket) -> bytes:
    got = _begun(connection)
    while more := connection.recv(65536):
        got += more
    return got


# -- what it takes ---------------------------------------------------------------------------------------------------------


def measured(port: int, work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and by how many bytes the server's memory grew at the most."""
    with _most_memory(port) as most:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    return seconds, most[0]


@contextmanager
def _most_memory(port: int) -> Iterator[list[float]]:
    children = psutil.Process().children(recursive=True)
    server = next(child for child in children if any(one.laddr and one.laddr.port == port for one in child.net_connections()))
    before, most, over = server.memory_info().rss, [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], server.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    main()
