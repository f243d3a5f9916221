"""Trackers whose servers are away, through a real worker with the real libraries: the job ends as it would have."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from service.store import events
from tests.running import Running, job

pytestmark = pytest.mark.long


@contextmanager
def that_never_answers() -> Iterator[str]:
    """A server that takes connections, and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        taking.join(10)
        for connection in taken:
            connection.close()


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_there", [False, True], ids=["nothing listens", "nothing answers"])
def test_a_server_that_is_away_or_never_answers_fails_no_job_and_leaves_no_process(running: Running, is_there: bool) -> None:
    with that_never_answers() as silent:
        url = silent if is_there else NOWHERE
        running.start_worker(FINEBITS_WANDB_URL=url, FINEBITS_MLFLOW_URL=url, WANDB_API_KEY="k" * 40)
        undisturbed = running.submit(job())
        running.wait_for_end(undisturbed)
        job_id = running.submit(job(training={"report_to": ["wandb", "mlflow"]}))
        ended = running.wait_for_end(job_id)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert running.series(job_id) == pytest.approx(running.series(undisturbed), rel=1e-6)
    with running.database.reading() as session:
        told = sorted(event.message for event in events.after(session, job_id, 0, 10_000) if event.kind == "notice")
    assert [sentence.split()[1] for sentence in told] == ["mlflow", "wandb"], told
    assert "k" * 40 not in " ".join(told)
    running.wait(job_id, lambda found: not those_left(running), seconds=120)


def those_left(running: Running) -> list[str]:
    """Processes of a tracker's, of this test's worker and whatever it began, also where their parent has ended."""
    ours = [process for process in psutil.process_iter(["name", "environ"]) if str(running.home) in str(process.info["environ"])]
    return [process.info["name"] for process in ours if "wandb" in process.info["name"]]
