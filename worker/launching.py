"""An attempt on several GPUs: the child becomes the launcher of one process for each, torch's elastic agent, and speaks for them.

The agent forks the ranks from the child, which has the stack loaded and has never touched CUDA. Only the first rank has something
to tell: it goes through the launcher, which hands on whole messages, so that a rank that is killed in the middle of one spoils
nothing. Each says how it ended, if it still can; the first that fails ends all. They die with the launcher, however that ends.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

from service.specs.reasons import Reason
from worker.post_mortem import post_mortem
from worker.run import Wish

MONITOR_SECONDS = 0.1  # between two looks at the ranks
SHUTDOWN_SECONDS = 5  # what ranks have to end in when one has failed, before they are killed
FAILED = 1  # the exit code of a rank that said why
OUTCOME = b'{"message":"outcome"'  # how the last word of a run begins


class Ranks:
    """The ranks of one attempt, as their launcher hears and steers them."""

    def __init__(self, n_ranks: int, pipe: Connection):
        self.n_ranks = n_ranks
        self.last_words: dict[int, dict[str, Any]] = {}  # by rank
        self._pipe = pipe  # to the supervisor
        self._ours, self._theirs = zip(*(Pipe() for _ in range(n_ranks)), strict=True)
        self._wish: Wish | None = None

    @property
    def wish(self) -> Wish | None:
        return self._wish

    @wish.setter
    def wish(self, wish: Wish | None) -> None:
        """The first rank hears it, and all obey it at one update."""
        self._wish = wish
        with suppress(OSError):
            self._ours[0].send_bytes(str(wish).encode())

    def take_part(self) -> tuple[int, Connection]:
        """In a rank that was just forked: its number and its own end, and nobody else's."""
        rank = int(os.environ["RANK"])
        for end in (*self._ours, *self._theirs, self._pipe):
            if end is not self._theirs[rank]:
                end.close()
        return rank, self._theirs[rank]

    def hand_on(self) -> None:
        """Until no rank speaks any more."""
        listened = dict(zip(self._ours, range(self.n_ranks), strict=True))
        while listened:
            for end in wait(list(listened)):
                assert isinstance(end, Connection)
                try:
                    message = end.recv_bytes()
                except (EOFError, OSError):
                    del listened[end]
                    continue
                if message.startswith(OUTCOME):
                    self.last_words[listened[end]] = orjson.loads(message)
                else:
                    self._pipe.send_bytes(message)

    def let_go(self) -> None:
        """Once all are forked and have ended: what they said is all there is."""
        for end in self._theirs:
            end.close()


# A rank's number, its pipe to the launcher, and the file by which it meets the others -> whether it went well.
WorkAs = Callable[[int, Connection, Path], bool]


def launch(ranks: Ranks, job_id: str, work_as: WorkAs) -> dict[str, Any]:
    """Has each rank work, and answers the outcome of all, as the supervisor is to hear it."""
    hearing = threading.Thread(target=ranks.hand_on, daemon=True, name="ranks")
    hearing.start()
    failed: tuple[int, int] | None = None
    with TemporaryDirectory(prefix="finebits-ranks-") as folder:
        try:
            meeting = Path(folder, "ranks")
            elastic_launch(_config(ranks.n_ranks, job_id, folder), _rank)(ranks, os.getpid(), meeting, work_as)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            failed = rank, failure.exitcode
    ranks.let_go()
    hearing.join(SHUTDOWN_SECONDS)
    return verdict(ranks.n_ranks, ranks.last_words, failed)


def verdict(n_ranks: int, last_words: dict[int, dict[str, Any]], failed: tuple[int, int] | None) -> dict[str, Any]:
    """`failed` is the rank that failed first, and its exit code. One that died without a word lost the attempt, as the child's
    own death does; what one said counts as if there were no others.
    """
    first = last_words.get(0)
    if first is not None and (failed is None or first["outcome"] == "stopped"):
        return first
    rank, exit_code = failed or (0, 0)
    who = f"Rank {rank} of {n_ranks}"
    said = last_words.get(rank)
    if said is None or said["outcome"] != "failed":
        return {"message": "outcome", "outcome": "lost", "sentence": post_mortem(who, exit_code)}
    if said["reason"] == Reason.KILLED:
        return {"message": "outcome", "outcome": "lost", "sentence": f"{who}: {said['sentence']}"}
    return said | {"sentence": _of_rank(who, said), "details": {"rank": rank} | said["details"]}


def _of_rank(who: str, said: dict[str, Any]) -> str:
    """A bad row is as bad in each; of what happened to one alone its number is told."""
    alone = (Reason.OUT_OF_MEMORY, Reason.INTERNAL_ERROR)
    return f"{who}: {said['sentence']}" if said["reason"] in alone else str(said["sentence"])


def _config(n_ranks: int, job_id: str, folder: str) -> LaunchConfig:
    """One host: they meet by files in a folder of this user's, and no port is opened that others could reach. No second try here,
    since the attempt has its own.
    """
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _loopback())
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_ranks,
        run_id=job_id,
        logs_specs=DefaultLogsSpecs(log_dir=folder),  # of what it keeps for itself; ranks speak into the attempt's log
        rdzv_backend="c10d",
        rdzv_endpoint=f"{folder}/agent",
        rdzv_configs={"store_type": "file"},
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=MONITOR_SECONDS,
        start_method="fork",
        signals_to_handle="SIGHUP",  # SIGTERM is the child's own: it means to save a checkpoint first
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _rank(ranks: Ranks, launcher: int, meeting: Path, work_as: WorkAs) -> None:
    """One rank's whole life. Its exit code tells the agent, and its last word the launcher."""
    _prctl_pr_set_pdeathsig(signal.SIGKILL)
    if os.getppid() != launcher:  # which died before this rank could be tied to it
        os._exit(FAILED)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    rank, pipe = ranks.take_part()
    if not work_as(rank, pipe, meeting):
        os._exit(FAILED)
