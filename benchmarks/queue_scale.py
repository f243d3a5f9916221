"""What each verb costs beside 10,000 queued and 100,000 finished jobs, over its cost beside 100.

    python benchmarks/queue_scale.py [--queued 10000] [--finished 100000] [--rounds 30] [--only sqlite|postgresql]

Two databases of one kind, filled alike with the documents, events, checkpoints, metrics and series of a real job. Each verb is
done on one and on the other in turn, and the medians of the processor's time are compared, this process's and PostgreSQL's (Linux
counts it to the microsecond in /proc/PID/sched): what else the machine does, and waiting for a disk, are no part of it. They are
called as the worker and the API call them, without HTTP, and nothing is kept rendered.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import String, cast, create_engine, func, insert, literal, make_url, select, text, true, update  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402
from starlette.requests import Request  # noqa: E402

from service.api import checkpoints as checkpoints_api  # noqa: E402
from service.api import events as events_api  # noqa: E402
from service.api import jobs as jobs_api  # noqa: E402
from service.api import metrics as metrics_api  # noqa: E402
from service.api import series as series_api  # noqa: E402
from service.api.rendered import Rendered  # noqa: E402
from service.settings import Settings  # noqa: E402
from service.specs.read import read_job  # noqa: E402
from service.store import (  # noqa: E402  # noqa: E402
    checkpoints,
    events,
    jobs,
    labels,
    leases,
    limits,
    metrics,
    removals,
    retention,
    scheduling,
    schema,
    steps,
    wishes,
    workers,
)
from service.store.clock import now  # noqa: E402
from service.store.leases import Claim  # noqa: E402
from service.store.references import live_references  # noqa: E402
from service.store.session import Database  # noqa: E402
from service.store.states import State  # noqa: E402
from service.store.tables import Artifact, Attempt, Base, Checkpoint, Event, Job, JobLabel, Metric, Point, Removal, StepResult  # noqa: E402
from tests import servers  # noqa: E402
from tests.service.store.staffed import a_report  # noqa: E402
from worker import supervise  # noqa: E402
from worker.disk import Disk  # noqa: E402
from worker.settings import WorkerSettings  # noqa: E402

SETTINGS = Settings()
JOB = json.loads((ROOT / "examples" / "sft-lora.json").read_text(encoding="utf-8"))
FEW_QUEUED, FEW_FINISHED, FEW_WAITING = 50, 50, 5
OWNERS, POINTS, CALLS = 3, 10, 5
AIM = 1.5

Verb = Callable[[Database], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30, help="of each verb on each side; medians are printed")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    asked = parser.parse_args()
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        print(f"{kind}: {asked.queued:,} queued and {asked.finished:,} finished jobs over {FEW_QUEUED} and {FEW_FINISHED}")
        compare(kind, asked.queued, asked.finished, asked.rounds)


def compare(kind: str, n_queued: int, n_finished: int, rounds: int) -> None:
    with ExitStack() as stack:
        few, many = (stack.enter_context(opened) for opened in two_databases(stack, kind))
        fill(few, FEW_QUEUED, FEW_FINISHED)
        began = time.perf_counter()
        fill(many, n_queued, n_finished)
        print(f"  filled in {time.perf_counter() - began:.0f} s", flush=True)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-scale-")))
        for name, (verb, undo) in verbs(home).items():
            taken = {side: [] for side in (few, many)}  # type: dict[Database, list[float]]
            for number in range(rounds + 1):
                for database in (few, many) if number % 2 else (many, few):
                    taken[database].append(timed(database, verb, undo))
            tell(name, *(statistics.median(seconds[1:]) for seconds in taken.values()))  # the first one of each was cold


def timed(database: Database, verb: Verb, undo: Callable[[Database, Any], None] | None) -> float:
    """Of one call; of what changes nothing several are timed as one, since some take no longer than to look at the clock."""
    backends, calls = pids(database), 1 if undo is not None else CALLS
    began = cpu_seconds(backends)
    for _ in range(calls):
        answer = verb(database)
    seconds = cpu_seconds(backends) - began
    if undo is not None:
        undo(database, answer)
    return seconds / calls


def pids(database: Database) -> list[int]:
    """The server's processes that serve this database's connections; none on SQLite."""
    if database.is_sqlite:
        return []
    with database.engine.connect() as connection:
        return list(connection.scalars(text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")))


def cpu_seconds(backends: list[int]) -> float:
    said = [Path(f"/proc/{pid}/sched").read_text(encoding="utf-8") for pid in backends]
    return time.thread_time() + sum(float(re.findall(r"sum_exec_runtime\s*:\s*([\d.]+)", text)[0]) for text in said) / 1000


def tell(name: str, few: float, many: float) -> None:
    verdict = "" if many <= AIM * few else f"   more than {AIM:g}"
    print(f"  {name:44} {1000 * many:8.2f} ms over {1000 * few:8.2f} ms = {many / few:7.2f}{verdict}", flush=True)


# -- what is compared ------------------------------------------------------------------------------------------------------


def verbs(home: Path) -> dict[str, tuple[Verb, Callable[[Database, Any], None] | None]]:
    """By name: what is timed, and what puts things back after it."""
    os.environ |= {"FINEBITS_MODELS_ROOT": str(ROOT / "examples" / "models"), "FINEBITS_DATASETS_ROOT": str(ROOT / "examples")}
    settings = WorkerSettings(home=home, name="one")
    settings.artifacts_root.mkdir(parents=True, exist_ok=True)
    disk, me = Disk(settings.artifacts_root, 0), a_report("one").me
    owner = "owner-0"

    def claim(database: Database) -> Claim:
        found = supervise._claim(database, settings, disk, me)
        assert found is not None
        return found[0]

    def give_back(database: Database, held: Claim) -> None:
        disk.done(held.job_id)
        with database.transaction() as session:
            leases.give_back(session, held, "measured")
            session.execute(update(Job).where(Job.id == held.job_id).values(bell_rung_at=now()))

    def listed(**asked: Any) -> Verb:
        return lambda database: jobs_api.list_jobs(a_request(database, owner), limit=10, **({"label": []} | asked))

    def got(job_id: str, of: str = owner) -> Verb:
        return lambda database: jobs_api.get_job(job_id, a_request(database, of))

    def written(write: Callable[[Session], object]) -> Verb:
        def verb(database: Database) -> object:
            with database.transaction() as session:
                return write(session)

        return verb

    queues = settings.queue_names
    finished = an_id("finished", 0)
    return {
        "claim (look, room, slots, lease)": (claim, give_back),
        "look of a worker that has nothing free": (looks_in_vain(me), None),
        "list (10 a page)": (listed(), None),
        "list, the page behind the middle": (listed(after=an_id("finished", 30)), None),
        "list of a state that few are in": (listed(state=State.FAILED), None),
        "list by a label that few have": (listed(label=["rare:yes"]), None),
        "get, finished": (got(finished), None),
        "get, first in line (with position)": (got(an_id("queued", 3)), None),
        "get, last in line (with position)": (got("job-last", "owner-last"), None),
        "metrics": (lambda it: metrics_api.get_metrics(finished, a_request(it, owner)), None),
        "series": (lambda it: series_api.get_series(finished, a_request(it, owner), "loss"), None),
        "events": (lambda it: events_api.list_events(finished, owner, it), None),
        "checkpoints": (lambda it: checkpoints_api.list_checkpoints(finished, owner, it), None),
        "sweep: rescue": (written(leases.rescue), None),
        "sweep: limits": (written(limits.end_late), None),
        "sweep: retention": (written(retention.expire), None),
        "sweep: bells": (written(lambda session: leases.unheard(session, queues, 30)), all_old),
        "sweep: unreadable": (written(lambda session: scheduling.tell_unreadable(session, queues)), None),
        "sweep: forget workers": (written(workers.forget), None),
        "sweep: reserve": (written(lambda session: scheduling.reserve(session, queues, 600)), None),
        "clean-up: what is to be removed": (written(removals.waiting), None),
        "clean-up: notes that are old": (written(removals.forget_old), None),
        "cancel, and queue again": (written(lambda session: again(session, an_id("queued", 6))), None),
        "what refers to a job (before a delete)": (written(lambda session: live_references(session, finished)), None),
    }


def a_request(database: Database, owner: str) -> Request:
    """From somebody who sees that owner's, to a service that has nothing rendered yet."""
    state = SimpleNamespace(database=database, rendered=Rendered(), settings=SETTINGS)
    scope = {"type": "http", "headers": [], "app": SimpleNamespace(state=state)}
    return Request(scope | {"state": {"caller": SimpleNamespace(sees=owner)}})


def looks_in_vain(me: workers.Identity) -> Verb:
    """The line is looked at whole, since the slot is taken while it is."""

    def verb(database: Database) -> None:
        with database.reading() as session:
            assert scheduling.best(session, a_report("full").me) is None

    return verb


def again(session: Session, job_id: str) -> None:
    wishes.cancel(session, "owner-0", job_id)
    wishes.retry(session, "owner-0", job_id)


def all_old(database: Database, rung: Any) -> None:
    """As a sweep finds them that comes after a while."""
    with database.transaction() as session:
        session.execute(
            update(Job).where(Job.state == "queued", Job.bell_rung_at > now() - 100).values(bell_rung_at=now() - 1000)
        )


# -- what is there ---------------------------------------------------------------------------------------------------------


def two_databases(stack: ExitStack, kind: str) -> Iterator[Any]:
    server = stack.enter_context(servers.postgresql()) if kind == "postgresql" else None
    for name in ("few", "many"):
        yield migrated(new_url(stack, server, name))


def new_url(stack: ExitStack, server: str | None, name: str) -> str:
    if server is None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-scale-"))
        return f"sqlite:///{folder}/{name}.db"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    database = Database(url)
    schema.upgrade(database)
    yield database
    database.close()


def an_id(state: str, number: int) -> str:
    return f"job-{state}-{10**9 + number}"


def fill(database: Database, n_queued: int, n_finished: int) -> None:
    """Finished jobs, then queued ones, of three owners, two priorities and two needs: copies of two real ones."""
    with database.transaction() as session:
        queued, finished = a_job(session), a_finished_job(session)
    with database.transaction() as session:
        copy_jobs(session, finished, "finished", n_finished, created_from=0.0)
        copy_jobs(session, queued, "queued", n_queued, created_from=1e6)
        for table in (JobLabel, Attempt, Event, StepResult, Checkpoint, Artifact, Metric, Point):
            copy_rows(session, table.__table__, finished, "finished", n_finished)
        for table in (JobLabel, Event):
            copy_rows(session, table.__table__, queued, "queued", n_queued)
        remove(session, n_finished)
        few = [an_id("finished", 3 * number) for number in range(5)]
        session.execute(update(Job).where(Job.id.in_(few)).values(state="failed", reason="diverged"))
        for job_id in few:
            labels.replace(session, session.get_one(Job, job_id), {"rare": "yes"})
        session.execute(update(Job).where(Job.id == queued).values(created_at=1e9, owner="owner-last"))
        last = {"id": "job-last", "owner": "owner-last", "priority": -1, "created_at": 2e9}
        copy_one(session, queued, last)
        workers.register(session, a_report("one", cpus=1))
        workers.register(session, a_report("full", cpus=0, gpus=0))
    if database.is_sqlite:
        return  # nobody asks it for statistics
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")  # as the server does by itself, sooner or later


def remove(session: Session, n_done: int) -> None:
    """Notes of so many files that are gone, and of a few that are to go."""
    for state, number, done_at in (("done", n_done, literal(9e9)), ("waiting", FEW_WAITING, literal(None))):
        n = numbers(number)
        rows = select(literal(f"{state}/") + cast(n.c.n, String), 1.0 + n.c.n, done_at)
        session.execute(insert(Removal).from_select(["path", "asked_at", "done_at"], rows))


def a_job(session: Session) -> str:
    document = JOB | {"labels": {"project": "scale"}}
    return jobs.create(session, "owner-0", document, read_job(document)).id


def a_finished_job(session: Session) -> str:
    """Run by hand as a worker would: two checkpoints that were measured, and a series."""
    job_id = a_job(session)
    held = leases.claim(session, ["default"], "one", 60, only=job_id)
    assert held is not None
    for global_step in (50, 100):
        files = [{"name": f"file-{number}", "size": 1000, "sha256": "0" * 64} for number in range(3)]
        checkpoints.record(session, held, "sft", global_step, f"{job_id}/1/{global_step}", 1.0, 2.0, files)
        metrics.record_measurement(session, held, "sft", global_step, "validation", {"documents": []})
        rows = [a_metric(global_step, f"measure_{number}") for number in range(6)]
        metrics.record(session, held, "sft", "validation", rows)
    for global_step in range(POINTS):
        metrics.record_points(session, held, "sft", global_step, {"loss": 1.0 / (1 + global_step)})
    steps.finish(session, held, 1, "sft", f"{job_id}/1/sft", {})
    events.add(session, job_id, events.Kind.STEP_FINISHED, "Step sft is done.")
    leases.succeed(session, held)
    return job_id


def a_metric(global_step: int, measure: str) -> dict[str, Any]:
    plain = {"value": 1.0, "unit": "bits", "standard_error": 0.1, "interval": [0.8, 1.2], "interval_reason": None}
    counted = {"n_documents": 20, "n_tokens": 2000, "estimator": "mean"}
    beside = dict.fromkeys(("versus_base", "versus_best", "versus_leader"))
    return {"global_step": global_step, "measure": measure, **plain, **counted, **beside}


def copy_jobs(session: Session, of: str, state: str, number: int, created_from: float) -> None:
    """A tenth have a deadline, another tenth a limit, and half of those that ended a time to live."""
    n = numbers(number)
    ended = state == "finished"
    in_ten = n.c.n % 10
    changed: dict[str, Any] = {
        "id": literal(f"job-{state}-") + cast(n.c.n + 10**9, String),
        "owner": literal("owner-") + cast(n.c.n % OWNERS, String),
        "priority": n.c.n % 2,
        "gpus": -(n.c.n // 2 % 2),
        "created_at": created_from + n.c.n,
        "bell_rung_at": literal(1e6),
        "deadline": func.nullif(in_ten, 0) * 0.0 + (1e6 if ended else 9e9),
        "max_seconds": func.nullif(in_ten, 1) * 0.0 + 1e6,
        "expires_at": (func.nullif(n.c.n % 2, 0) * 0.0 + 9e9) if ended else literal(None),
    }
    copy(session, Job.__table__, Job.id == of, changed, n)


def copy_rows(session: Session, table: Any, of: str, state: str, number: int) -> None:
    if table is Metric.__table__:
        copy_rows(session, Base.metadata.tables["measurements"], of, state, number)
    n = numbers(number)
    copy(session, table, table.c.job_id == of, {"job_id": literal(f"job-{state}-") + cast(n.c.n + 10**9, String)}, n)


def copy_one(session: Session, of: str, changed: dict[str, Any]) -> None:
    copy(session, Job.__table__, Job.id == of, {name: literal(value) for name, value in changed.items()}, numbers(1))


def copy(session: Session, table: Any, which: Any, changed: dict[str, Any], n: Any) -> None:
    columns = [changed.get(column.name, column) for column in table.c]
    rows = select(*columns).select_from(table.join(n, true())).where(which)
    session.execute(insert(table).from_select([column.name for column in table.c], rows))


def numbers(number: int) -> Any:
    first = select(literal(0).label("n")).cte(f"numbers_{number}", recursive=True)
    return first.union_all(select(first.c.n + 1).where(first.c.n < number - 1))


if __name__ == "__main__":
    main()
