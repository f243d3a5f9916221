"""What is told when, what is tried again, and what stays on the host. The store is a list that may fail on demand."""

import threading
import time

import pytest

from service.specs.reasons import Reason
from service.storage.errors import Away, Damaged
from tests.worker.stages.attempts import Pipe
from worker import checkpoints, deliveries
from worker.deliveries import Deliveries
from worker.failures import JobFailure
from worker.run import Run, Stopped

URL = "s3://bucket/folder"


class Shelf:
    """A store that notes what it is given. `fails` are raised first, one for each put."""

    url = URL

    def __init__(self):
        self.keys = []
        self.fails = []
        self.is_open = threading.Event()
        self.is_open.set()

    def put(self, file, key, size, sha256):
        assert self.is_open.wait(120)
        if self.fails:
            raise self.fails.pop(0)
        assert file.stat().st_size == size
        self.keys.append(key)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "FIRST_PAUSE_SECONDS", 0.01)
    return tmp_path


@pytest.fixture
def wishes():
    return []


@pytest.fixture
def make(shelf, root, wishes):
    return lambda patience_seconds=120, known=(): Deliveries(shelf, root, known, patience_seconds, lambda: bool(wishes))


def sealed(root, number, attempt=1):
    folder = root / f"job-1/{attempt}/sft/checkpoint-{number}"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"0123456789")
    (folder / "state.json").write_text("{}")
    return folder, checkpoints.seal(folder)


def test_a_checkpoint_is_told_of_once_the_store_has_it_with_its_manifest_last(root, shelf, make):
    sending, told = make(), []
    shelf.is_open.clear()
    sending.send_checkpoint(*sealed(root, 10), lambda: told.append(list(shelf.keys)))
    assert told == []
    shelf.is_open.set()
    sending.settle()
    folder = "job-1/1/sft/checkpoint-10"
    assert told == [[f"{folder}/model.bin", f"{folder}/state.json", f"{folder}/manifest.json"]]


def test_a_store_that_was_away_gets_what_it_missed_and_in_order(root, shelf, make):
    sending, told = make(), []
    shelf.fails = [Away("It is away."), Away("It is away.")]
    for number in (10, 20):
        sending.send_checkpoint(*sealed(root, number), lambda number=number: told.append(number))
    sending.settle()
    assert told == [10, 20]
    assert len(shelf.keys) == 6


@pytest.mark.parametrize(
    ("error", "tries"), [(Away(f"The artifact store {URL} is away."), 50), (Damaged(f"{URL} is damaged."), 1)]
)
def test_what_cannot_be_sent_fails_the_job_with_a_sentence_that_names_the_store(root, shelf, make, error, tries):
    sending, told = make(patience_seconds=0.2), []
    shelf.fails = [error] * 50
    sending.send_checkpoint(*sealed(root, 10), lambda: told.append(10))
    with pytest.raises(JobFailure, match=URL) as caught:
        sending.settle()
    assert caught.value.reason == Reason.ARTIFACT_STORE
    assert 1 <= 50 - len(shelf.fails) <= tries
    with pytest.raises(JobFailure):
        sending.check()
    with pytest.raises(JobFailure):
        sending.send_checkpoint(*sealed(root, 20), lambda: told.append(20))
    assert told == [], "in order or not at all"


def test_who_must_stop_does_not_wait_for_a_store_that_is_away(root, shelf, make, wishes):
    sending = make(patience_seconds=600)
    shelf.fails = [Away("It is away.")] * 1000
    sending.send_checkpoint(*sealed(root, 10), lambda: None)
    wishes.append("stop")
    sending.finish(120)
    assert len(shelf.fails) > 900


def test_who_must_stop_waits_for_what_is_under_way_only_so_long(root, shelf, make, wishes):
    sending, told = make(), []
    shelf.is_open.clear()
    sending.send_checkpoint(*sealed(root, 10), lambda: told.append(10))
    wishes.append("stop")
    sending.finish(0.1)
    assert told == []
    shelf.is_open.set()
    sending.finish(120)
    assert told == [10]


def test_a_step_is_not_finished_with_files_that_are_not_sent(root, shelf, make, wishes):
    pipe = Pipe()
    run = Run(pipe, root)
    run.deliveries, run.grace_seconds = make(), 0.2
    shelf.is_open.clear()
    folder, files = sealed(root, 10)
    run.checkpoint("sft", 10, folder, 1.0, None, files)
    run.wish = "stop"
    wishes.append("stop")
    with pytest.raises(Stopped):
        run.step_finished(0, "sft", folder, {})
    assert pipe.messages == []
    shelf.is_open.set()


def test_of_each_step_the_newest_and_what_the_store_lacks_stay_on_the_host(root, shelf, make):
    before, _ = sealed(root, 5)
    unsent, _ = sealed(root, 7)
    other = root / "job-2/1/sft/checkpoint-5"
    other.mkdir(parents=True)
    sending = make(known=["job-1/1/sft/checkpoint-5", "job-2/1/sft/checkpoint-5"])
    folders = [sealed(root, number, attempt=2) for number in (10, 20)]
    for folder, files in folders:
        sending.send_checkpoint(folder, files, lambda: None)
    sending.settle()
    assert [folder.exists() for folder, _ in folders] == [False, True]
    assert (before.exists(), unsent.exists(), other.exists()) == (False, True, True)
    assert sending.unsent("job-1", "sft") == [unsent]


def test_training_waits_when_too_much_is_not_sent(root, shelf, make):
    sending = make()
    shelf.is_open.clear()
    done = threading.Event()

    def train():
        for number in range(10, 10 * (deliveries.MOST_WAITING + 4), 10):
            sending.send_checkpoint(*sealed(root, number), lambda: None)
        done.set()

    threading.Thread(target=train, daemon=True).start()
    deadline = time.monotonic() + 60
    while len(list(root.glob("job-1/1/sft/*"))) < deliveries.MOST_WAITING + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not done.wait(0.3)
    assert len(list(root.glob("job-1/1/sft/*"))) == deliveries.MOST_WAITING + 2
    shelf.is_open.set()
    assert done.wait(120)
    sending.settle()
