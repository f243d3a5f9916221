"""The files that are to go, removed by a sweep from the store and from the hosts; whatever breaks off is done by the next."""

import os
import time
from pathlib import Path

import pytest

from service.storage.errors import Away
from service.storage.remote import Remote
from service.store import removals
from service.store.session import Database
from worker.clean_up import CleanUp
from worker.settings import WorkerSettings

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def ask(database: Database, *paths: str) -> None:
    with database.transaction() as session:
        removals.ask(session, paths)


def left(database: Database) -> tuple[list[str], list[str]]:
    with database.reading() as session:
        return list(removals.waiting(session)), list(removals.recent(session))


@ON_SQLITE
def test_what_was_given_up_goes_and_nothing_beside_it(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    write(root, "job-a/1/sft/checkpoint-1/w", "job-a/1/sft/checkpoint-10/w", "job-a/1/log.txt", "job-b/1/w")
    ask(database, "job-a/1/sft/checkpoint-1", "job-b", "job-c/1/was-never-there")
    CleanUp(WorkerSettings(artifacts_root=root)).once(database)
    assert files(root) == ["job-a/1/log.txt", "job-a/1/sft/checkpoint-10/w"]
    assert left(database) == ([], [])


@ON_SQLITE
def test_a_clean_up_that_broke_off_is_done_by_the_next(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "artifacts"
    write(root, "job-a/1/w", "job-b/1/w")
    ask(database, "job-a", "job-b")
    clean_up = CleanUp(WorkerSettings(artifacts_root=root))
    with monkeypatch.context() as broken:
        broken.setattr(removals, "done", lambda *_, **__: 1 / 0)  # killed after the files went, before that was noted
        with pytest.raises(ZeroDivisionError):
            clean_up.once(database)
    assert (files(root), left(database)[0]) == ([], ["job-a", "job-b"])
    clean_up.once(database)
    assert left(database) == ([], [])


@ON_SQLITE
@pytest.mark.parametrize("path", ["..", "../outside", "", "."])
def test_nothing_outside_the_root_and_not_the_root_itself_goes(database: Database, tmp_path: Path, path: str) -> None:
    write(tmp_path, "outside/w", "artifacts/job-a/w")
    ask(database, path)
    CleanUp(WorkerSettings(artifacts_root=tmp_path / "artifacts")).once(database)
    assert files(tmp_path / "outside") == ["w"]
    assert files(tmp_path / "artifacts") == ["job-a/w"]


@ON_SQLITE
def test_where_the_store_is_elsewhere_each_host_drops_its_copies(database: Database, tmp_path: Path) -> None:
    one, other, store = tmp_path / "one", tmp_path / "other", tmp_path / "store"
    for root in (one, other, store):
        write(root, "job-a/1/sft/checkpoint-1/w", "job-a/1/sft/checkpoint-2/w")
    ask(database, "job-a/1/sft/checkpoint-1")
    for root in (one, other):
        CleanUp(WorkerSettings(artifacts_root=root, artifacts_url=f"file://{store}")).once(database)
    for root in (one, other, store):
        assert files(root) == ["job-a/1/sft/checkpoint-2/w"]
    assert left(database) == ([], ["job-a/1/sft/checkpoint-1"])


@ON_SQLITE
def test_a_store_that_is_away_is_asked_again_by_the_next_sweep(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    write(store, "job-a/1/w")
    ask(database, "job-a")
    clean_up = CleanUp(WorkerSettings(artifacts_root=tmp_path / "here", artifacts_url=f"file://{store}"))

    def away(self: Remote, key: str) -> None:
        raise Away("The store does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(Remote, "remove", away)
        clean_up.once(database)
    assert (files(store), left(database)) == (["job-a/1/w"], (["job-a"], []))
    clean_up.once(database)
    assert (files(store), left(database)) == ([], ([], ["job-a"]))


@ON_SQLITE
def test_what_a_process_that_died_was_receiving_goes_after_a_day_and_what_comes_stays(database: Database, tmp_path: Path) -> None:
    root, day = tmp_path / "artifacts", 86_400
    write(root, ".incoming/tmpdead/file", ".incoming/tmplive/file", ".incoming/sending-old", ".incoming/sending-begun", "job-a/w")
    for path, idle in {
        "tmpdead": 2 * day,
        "tmpdead/file": 1.5 * day,
        "tmplive": 9 * day,
        "sending-old": 8 * day,
        "sending-begun": 6 * day,
    }.items():
        at = time.time() - idle
        os.utime(root / ".incoming" / path, (at, at))
    CleanUp(WorkerSettings(artifacts_root=root)).once(database)
    assert files(root) == [".incoming/sending-begun", ".incoming/tmplive/file", "job-a/w"]
    assert not (root / ".incoming/tmpdead").exists()
