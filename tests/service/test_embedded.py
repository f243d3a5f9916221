import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import SecretStr

from service import embedded
from service.client import Client, Problem
from service.dispatch import Doorbell
from service.embedded import ChildDied, EmbeddedError, HomeInUse, PortInUse, running
from service.settings import Settings
from service.store import schema
from service.store.session import Database
from tests.service.stand_ins import API, DYING_API, DYING_WORKER, STUBBORN_WORKER, WORKER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FINEBITS_")]:
        monkeypatch.delenv(name)


def in_home(home: Path, **settings: object) -> Settings:
    return Settings(home=home, **{"port": 0, **settings})  # type: ignore[arg-type]


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def story(home: Path) -> str:
    file = home / "worker.txt"
    return file.read_text() if file.exists() else ""


def test_everything_runs_in_a_folder_of_its_own_and_stops_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(in_home(home), API, WORKER) as service:
        assert service.settings.broker_url == f"redis+socket://{home}/broker/broker.sock"
        assert Doorbell(service.settings.broker_url).answers()
        database = Database(service.settings.database_url)
        assert schema.is_current(database)
        database.close()
        with service.client() as client:
            assert client.is_ready()
        wait_until(lambda: story(home))
        pids = [child.process.pid for child in service.children]
        processes = [psutil.Process(pid) for pid in [*pids, int(story(home).split()[0])]]
        listening = [tuple(it.laddr) for process in processes for it in process.net_connections() if it.status == "LISTEN"]
        assert listening == [("127.0.0.1", service.settings.port)]  # the broker has no port
        service.check()
    assert story(home).endswith("checkpoint written\n")
    wait_until(lambda: not any(map(is_alive, processes)))
    for folder in (home, home / "logs", home / "broker", home / "artifacts", home / "models", home / "datasets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(log.name for log in (home / "logs").iterdir()) == ["api.log", "broker.log", "worker.log"]


def test_a_home_serves_one_at_a_time_and_again_afterwards(tmp_path: Path) -> None:
    with running(in_home(tmp_path), API, WORKER):
        with pytest.raises(HomeInUse, match=f"in use by process {os.getpid()}"), running(in_home(tmp_path), API, WORKER):
            pass
        assert story(tmp_path).count("checkpoint") == 0
    with running(in_home(tmp_path), API, WORKER) as again:
        again.check()


@pytest.mark.parametrize(("is_killed", "seconds"), [(True, 8), (False, 0.5)])
def test_what_a_process_that_was_killed_left_is_waited_for_longer_than_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool, seconds: float
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    clock = [0.0]
    of_the_test = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: clock.append(clock.pop() + seconds))
    monkeypatch.setattr(embedded, "time", of_the_test)
    for lets_go_at, is_had in ((seconds, True), (seconds * 3, False)):
        clock[0] = 0.0
        monkeypatch.setattr(embedded, "_locked", lambda _, at=lets_go_at: clock[0] >= at)
        (tmp_path / "lock").write_text(str(gone.pid if is_killed else os.getpid()))
        if is_had:
            with embedded.held(tmp_path):
                assert (tmp_path / "lock").read_text() == str(os.getpid())
        else:
            with pytest.raises(HomeInUse), embedded.held(tmp_path):
                pass


@pytest.mark.parametrize("name", ["n" * 120, "with spaces and #"], ids=["too long", "not plain"])
def test_the_broker_moves_where_a_socket_has_a_name_it_can_have(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with running(in_home(home), API, WORKER) as service:
        url = service.settings.broker_url
        folder = Path(url.removeprefix("redis+socket://")).parent
        assert home not in folder.parents
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert Doorbell(url).answers()
        wait_until(lambda: url in story(home))
    assert not folder.exists()


def test_another_broker_that_is_named_is_used(tmp_path: Path, broker_url: str) -> None:
    with running(in_home(tmp_path, broker_url=broker_url), API, WORKER) as service:
        assert [child.name for child in service.children] == ["api", "worker"]
        wait_until(lambda: broker_url in story(tmp_path))


def test_a_key_is_handed_on_and_nothing_else_of_it_shows(tmp_path: Path) -> None:
    with running(in_home(tmp_path, api_key="sixteen-or-more-characters"), API, WORKER) as service:
        api = psutil.Process(service.children[1].process.pid)
        assert api.environ()["FINEBITS_API_KEY"] == "sixteen-or-more-characters"
        assert not any("sixteen" in word for word in api.cmdline())
    assert not any("sixteen" in log.read_text() for log in (tmp_path / "logs").iterdir())


def test_who_is_stopped_has_the_time_that_the_settings_give(tmp_path: Path) -> None:
    with running(in_home(tmp_path, grace_seconds=300, stop_seconds=40, api_threads=3), API, WORKER) as service:
        _, api, worker = service.children
        assert (api.stop_seconds, worker.stop_seconds) == (50, 310)
        assert psutil.Process(api.process.pid).cmdline()[-2:] == ["--timeout-graceful-shutdown", "40"]
        told = psutil.Process(worker.process.pid).environ()
        assert told["FINEBITS_GRACE_SECONDS"] == "300.0"
        assert "FINEBITS_THREADS" not in told, "what the API has threads for is nothing to a job"


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port} .*--port"), running(in_home(tmp_path, port=port), API, WORKER):
            pass
    assert not (tmp_path / "finebits.db").exists()


def test_a_child_that_dies_at_once_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ChildDied, match=r"(?s)The api ended with exit code 3\. .*cannot bind"),
        running(in_home(tmp_path), DYING_API, WORKER),
    ):
        pass
    assert story(tmp_path).count("checkpoint") in (0, 1)


def test_a_child_that_dies_later_is_found_by_a_check(tmp_path: Path) -> None:
    with running(in_home(tmp_path), API, DYING_WORKER) as service:
        service.children[-1].process.wait()
        with pytest.raises(ChildDied, match=r"(?s)The worker ended with exit code 7\. .*no such model"):
            service.check()
        os.kill(service.children[0].process.pid, signal.SIGKILL)
        service.children[0].process.wait()
        with pytest.raises(ChildDied, match="The broker ended with signal SIGKILL"):
            service.check()


def test_what_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    with running(in_home(tmp_path), API, STUBBORN_WORKER) as service:
        wait_until(lambda: story(tmp_path))
        grandchild = psutil.Process(int(story(tmp_path).split()[0]))
        service.children[-1].stop_seconds = 0.2
    assert "checkpoint" not in story(tmp_path)
    wait_until(lambda: not is_alive(grandchild))


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(EmbeddedError, match="file/home cannot be made: Not a directory"),
        running(in_home(tmp_path / "file" / "home"), API, WORKER),
    ):
        pass


PARENT = """
import sys, time
from service.embedded import running
from service.settings import Settings
from tests.service.stand_ins import API, STUBBORN_WORKER
with running(Settings(home=sys.argv[1], port=0), API, STUBBORN_WORKER) as service:
    print(*(child.process.pid for child in service.children), flush=True)
    time.sleep(600)
"""


def test_when_it_is_killed_its_children_are_too_and_the_home_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 3
        wait_until(lambda: story(tmp_path))
        children.append(psutil.Process(int(story(tmp_path).split()[0])))
        parent.kill()
    wait_until(lambda: not any(map(is_alive, children)))
    with running(in_home(tmp_path), API, WORKER) as again:
        again.check()


def test_the_start_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 1)
    silent = (sys.executable, "-c", "import time; time.sleep(600)")
    with (
        pytest.raises(EmbeddedError, match=r"not ready after 1 seconds; its logs are in"),
        running(in_home(tmp_path), silent, WORKER),
    ):
        pass


def test_the_api_itself_takes_what_the_client_sends(tmp_path: Path) -> None:
    examples = ROOT / "examples"
    own = {"api_key": "sixteen-or-more-characters", "reward_hosts": "127.0.0.1:8900"}
    settings = in_home(tmp_path, models_root=examples / "models", datasets_root=examples, **own)
    files = sorted([*examples.glob("*.json"), *examples.glob("*.yaml")])
    with running(settings, worker=WORKER) as service, service.client() as client:
        ids = [client.submit(file)["id"] for file in files]
        assert [job["id"] for job in client.jobs(page_size=2)] == ids[::-1]
        assert [job["id"] for job in client.jobs(labels={"text": "markov"})] == [
            ids[files.index(examples / "pretrain-full.json")]
        ]
        assert [step["name"] for step in client.job(ids[0])["steps"]] == ["pretrain", "sft"]
        assert [step["name"] for step in client.submit(files[0], dry_run=True)["resolved"]["steps"]] == ["pretrain", "sft"]
        first, second = (client.submit(files[1], idempotency_key="mine")["id"] for _ in range(2))
        assert first == second
        assert client.cancel(first)["state"] == "cancelled"
        (sighting,) = client.watch(first)
        assert [event["kind"] for event in sighting.events] == ["submitted", "cancelled"]
        assert [job["id"] for job in client.jobs(state="cancelled")] == [first]
        assert client.metrics(first) == client.checkpoints(first) == client.artifacts(first) == []
        assert client.measures()[0]["name"] == "cross_entropy"
        with pytest.raises(Problem, match="no log yet") as caught:
            client.logs(first)
        assert caught.value.code == "not_found"
        with pytest.raises(Problem) as caught:
            client.submit({"model": {"model_name_or_path": "tiny-llama"}, "training": {"lr": 1}})
        assert "/training/lr" in [error["pointer"] for error in caught.value.errors]
        with Client(service.url) as stranger, pytest.raises(Problem) as caught:
            stranger.measures()
        assert caught.value.status == 401


def test_a_log_that_grew_long_is_turned_over_while_its_process_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOG_BYTES", 1000)
    log = tmp_path / "api.log"
    with log.open("ab") as opened:
        process = subprocess.Popen(
            ["sh", "-c", "yes old | head -c 2000; read line; echo new"], stdin=subprocess.PIPE, stdout=opened
        )
    while log.stat().st_size < 2000:
        time.sleep(0.01)
    child = embedded.Child("api", process, log, 1)
    child.check()
    process.communicate(b"go on\n", timeout=120)
    assert log.read_text() == "new\n"
    assert (tmp_path / "api.log.1").read_text() == "old\n" * 500


def test_the_children_are_given_secrets_and_not_stars(tmp_path: Path) -> None:
    """A worker that read stars for its key would not start."""
    key, api_key = "A" * 43 + "=", "sixteen characters"
    given = embedded._environment(in_home(tmp_path, secret_key=key, api_key=api_key))
    assert (given["FINEBITS_SECRET_KEY"], given["FINEBITS_API_KEY"]) == (key, api_key)


def test_a_home_makes_a_key_for_secrets_once_and_keeps_it_from_others(tmp_path: Path) -> None:
    first = embedded._with_secret_key(in_home(tmp_path)).secret_key
    assert first is not None
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert embedded._with_secret_key(in_home(tmp_path)).secret_key == first
    given = SecretStr("A" * 43 + "=")
    assert embedded._with_secret_key(in_home(tmp_path, secret_key=given)).secret_key == given
    assert embedded._environment(embedded._with_secret_key(in_home(tmp_path)))["FINEBITS_SECRET_KEY"] == first.get_secret_value()


def test_a_key_that_was_spoilt_is_said_and_no_other_is_made(tmp_path: Path) -> None:
    """With another key, what was encrypted would be lost."""
    (tmp_path / "secret.key").write_text("half of it")
    with pytest.raises(EmbeddedError, match="holds no key any more"), running(in_home(tmp_path), API, WORKER):
        pass
    assert (tmp_path / "secret.key").read_text() == "half of it"
