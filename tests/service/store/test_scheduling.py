"""The rule of docs/decisions/0016: who goes first, who may pass whom, and that nobody waits for ever."""

import random
from collections import deque

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select, update

from service.store import jobs, leases, line, scheduling, workers
from service.store.session import Database
from service.store.tables import Job, Worker
from tests.service.store.crowds import crowd
from tests.service.store.staffed import assert_slots_add_up, enter, place, place_all, reserve, silence, want
from tests.service.store.stored import a_read_job, cancel, events_of, job_of, renew, submit


def claimed(*placed: object) -> list[str]:
    return [each.held.job_id for each in placed]  # type: ignore[attr-defined]


def finish(database: Database, placed: scheduling.Placement) -> None:
    with database.transaction() as session:
        leases.succeed(session, placed.held)


# Who goes first


def test_slots_are_given_by_priority_then_by_the_owners_share_then_by_age(database: Database) -> None:
    me = enter(database, cpus=5)
    anns_old, anns_next = submit(database, "ann", created_at=1), submit(database, "ann", created_at=2)
    bobs = submit(database, "bob", created_at=3)
    urgent = submit(database, "ann", created_at=5, priority=1)
    assert claimed(*place_all(database, me)) == [urgent, bobs, anns_old, anns_next]


def test_a_job_that_needs_more_than_is_free_does_not_stop_those_behind_it(database: Database) -> None:
    me = enter(database, gpus=2, cpus=1)
    runs = want(database, 1, created_at=1)
    want(database, 2, created_at=2, priority=5)
    small, on_cpu = want(database, 1, created_at=3), want(database, 0, created_at=4)
    with database.transaction() as session:
        assert scheduling.claim(session, me, 60, runs) is not None
    assert claimed(*place_all(database, me)) == [small, on_cpu]


def test_a_worker_takes_only_jobs_of_its_queues_and_of_versions_that_it_reads(database: Database) -> None:
    me = enter(database, cpus=5, queues=("a100",), spec_versions={1})
    submit(database, queue="other")
    new = want(database, queue="a100", spec_version=2)
    assert place(database, me) is None
    with database.transaction() as session:
        assert scheduling.claim(session, me, 60, new) is None
    newer = enter(database, "newer", cpus=5, queues=("a100",), spec_versions={1, 2})
    assert claimed(*place_all(database, newer)) == [new]


def test_a_job_that_no_worker_of_its_queue_can_read_says_so(database: Database) -> None:
    enter(database, spec_versions={1})
    unread = want(database, spec_version=3)
    read = submit(database)
    for _ in range(2):
        with database.transaction() as session:
            scheduling.tell_why_held(session, ["default"])
    held = [event.message for event in events_of(database, unread) if event.kind == "held"]
    assert len(held) == 1
    assert "written in version 3" in held[0]
    assert "read 1." in held[0]
    assert (job_of(database, unread).progress or {})["held"] == held[0]
    assert job_of(database, read).progress is None
    enter(database, "newer", spec_versions={3})
    submit(database)
    with database.transaction() as session:
        scheduling.tell_unreadable(session, ["default"])
    assert len(events_of(database, unread)) == 2


def test_where_nobody_waits_a_sweep_asks_for_no_workers_and_no_slots(database: Database) -> None:
    enter(database)
    asked: list[str] = []
    sqlalchemy_event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    with database.transaction() as session:
        scheduling.tell_why_held(session, ["default"])
    reserve(database)
    assert len([statement for statement in asked if not statement.startswith("BEGIN")]) == 4


def test_jobs_record_the_version_that_they_are_written_in(database: Database) -> None:
    assert job_of(database, submit(database)).spec_version == 1


def test_a_job_that_needs_an_extra_goes_to_a_worker_that_has_it_and_stops_nobody(database: Database) -> None:
    without, unknown = enter(database, "without", cpus=2, extras=("eval",)), enter(database, "unknown", cpus=2)
    with database.transaction() as session:
        session.execute(update(Worker).where(Worker.name == "unknown").values(extras=None))
    needs = want(database, extras="gptq", created_at=1, priority=5)
    needs_both = want(database, extras="eval,gptq", created_at=2)
    plain, plain_too = want(database, created_at=3), want(database, created_at=4)
    assert claimed(place(database, without), place(database, unknown)) == [plain, plain_too]
    assert (place(database, without), place(database, unknown)) == (None, None)
    with database.transaction() as session:
        assert scheduling.claim(session, without, 60, needs) is None
    has = enter(database, "has", cpus=2, extras=("gptq",))
    assert claimed(*place_all(database, has)) == [needs]
    assert claimed(*place_all(database, enter(database, "has-both", cpus=2, extras=("eval", "gptq")))) == [needs_both]


def test_a_job_that_needs_what_no_worker_has_says_so_once(database: Database) -> None:
    enter(database, "host-a", extras=("eval",))
    enter(database, "host-b")
    enter(database, "elsewhere", queues=("a100",), extras=("gptq",))
    waits, plain = want(database, extras="gptq"), submit(database)
    for _ in range(2):
        with database.transaction() as session:
            scheduling.tell_why_held(session, ["default"])
    (held,) = [event.message for event in events_of(database, waits) if event.kind == "held"]
    assert held == (
        "Held: it needs the extra gptq, and the workers of queue default have host-a (eval), host-b (none). "
        "It begins when there is one that has it."
    )
    assert job_of(database, plain).progress is None
    enter(database, "newer", extras=("gptq",))
    with database.transaction() as session:
        scheduling.tell_lacking_extras(session, ["default"])
    assert len([event for event in events_of(database, waits) if event.kind == "held"]) == 1


def test_no_worker_is_reserved_for_a_job_that_it_could_not_do(database: Database) -> None:
    enter(database, "without", gpus=2)
    enter(database, "has", gpus=2, extras=("gptq",))
    want(database, 1, created_at=1)
    assert place(database, workers.Identity("has", "1")) is not None
    needs = want(database, 2, extras="gptq", created_at=2)
    with database.transaction() as session:
        assert scheduling.reserve(session, ["default"], 0) == (needs, "has")


def test_jobs_record_what_they_need_of_a_worker(database: Database) -> None:
    of_export = {"export_quantization_bit": 4, "export_quantization_dataset": "lines"}
    steps = [{"name": "sft"}, {"name": "small", "do": "export", "model": {"model_name_or_path": "@sft", **of_export}}]
    with database.transaction() as session:
        quantized = jobs.create(session, "ann", {}, a_read_job(steps=steps)).id
    assert job_of(database, submit(database)).extras == ""
    assert job_of(database, quantized).extras == "gptq"


def test_a_draining_worker_takes_nothing_and_keeps_what_it_has(database: Database) -> None:
    me = enter(database, cpus=2)
    running = submit(database)
    assert claimed(*place_all(database, me)) == [running]
    waiting = submit(database)
    with database.transaction() as session:
        workers.drain(session, "one")
    assert place(database, me) is None
    with database.transaction() as session:
        assert scheduling.claim(session, me, 60, waiting) is None
        workers.undrain(session, "one")
    assert job_of(database, running).state == "running"
    assert claimed(*place_all(database, me)) == [waiting]


# Reservations


def reserved_for(database: Database, worker: str = "one") -> str | None:
    with database.reading() as session:
        return session.scalar(select(Worker.reserved_for).where(Worker.name == worker))


def test_a_job_that_waited_long_enough_has_a_worker_kept_for_it(database: Database) -> None:
    me = enter(database, gpus=2, cpus=1)
    first = want(database, 1)
    running = place_all(database, me)
    big = want(database, 2)
    assert reserve(database, after_seconds=1000) is None
    assert reserve(database) == (big, "one")
    assert reserve(database) is None, "It has one already."
    small, on_cpu = want(database, 1), want(database, 0)
    assert claimed(*place_all(database, me)) == [on_cpu]
    finish(database, running[0])
    assert claimed(*place_all(database, me)) == [big]
    assert reserved_for(database) is None
    assert [job_of(database, job_id).state for job_id in (first, small)] == ["succeeded", "queued"]


def test_what_a_reserved_worker_has_beyond_it_goes_on_working(database: Database) -> None:
    me = enter(database, gpus=4, cpus=0)
    want(database, 1)
    want(database, 2)
    place_all(database, me)
    big = want(database, 3)
    assert reserve(database) == (big, "one")
    assert place(database, enter_small(database)) is None
    running = held_by(database, "one")
    with database.transaction() as session:
        leases.succeed(session, running[-1])  # the one with two GPUs: one is busy, and 4 − 3 may be
    want(database, 1)
    assert claimed(*place_all(database, me)) == [big]


def enter_small(database: Database) -> workers.Identity:
    """Another worker without GPUs changes nothing."""
    return enter(database, "small", gpus=0, cpus=1, queues=("other",))


def held_by(database: Database, worker: str) -> list[leases.Claim]:
    with database.reading() as session:
        found = session.scalars(select(Job).where(Job.worker == worker).order_by(Job.gpus)).all()
    return [leases.Claim(job.id, job.attempt, worker) for job in found]


def test_a_reservation_keeps_nothing_from_a_higher_priority(database: Database) -> None:
    me = enter(database, gpus=2, cpus=0)
    want(database, 1)
    place_all(database, me)
    big = want(database, 2)
    assert reserve(database) == (big, "one")
    urgent = want(database, 1, priority=1)
    want(database, 1, priority=0, owner="bob")
    assert claimed(*place_all(database, me)) == [urgent]


def test_the_worker_is_kept_where_it_will_fit_soonest(database: Database) -> None:
    them = [enter(database, name, gpus=2, cpus=0) for name in ("a", "b", "c")]
    for _ in range(6):
        want(database, 1)
    placed = place_all(database, *them)
    for each, left in zip(placed, (90, 90, 20, 30, 10, None), strict=True):
        progress = {"position": 1, "steps": 1, "eta_seconds": left} if left else {"position": 1, "steps": 2, "eta_seconds": 1}
        renew(database, each.held, progress)
    assert reserve(database) is None
    assert reserve_big(database) == "b"
    assert reserve_big(database) == "a", "c has a job that does not say when it ends."


def reserve_big(database: Database) -> str:
    want(database, 2)
    found = reserve(database)
    assert found is not None
    return found[1]


def test_one_gpu_that_any_other_job_would_do_with_is_not_reserved(database: Database) -> None:
    me = enter(database, gpus=1, cpus=0)
    want(database, 1)
    place_all(database, me)
    want(database, 1)
    assert reserve(database) is None


def test_a_whole_gpu_is_kept_from_those_that_share(database: Database) -> None:
    me = enter(database, gpus=1, cpus=0, sharing=True)
    want(database, 1, permille=500)
    first = place_all(database, me)
    whole = want(database, 1)
    assert reserve(database) == (whole, "one")
    want(database, 1, permille=500)
    assert place(database, me) is None
    finish(database, first[0])
    assert claimed(*place_all(database, me)) == [whole]


@pytest.mark.parametrize("what", ["cancelled", "draining", "lost"])
def test_a_reservation_ends_with_the_job_s_wait_or_with_its_worker(database: Database, what: str) -> None:
    me = enter(database, gpus=2, cpus=0)
    want(database, 1)
    place_all(database, me)
    big = want(database, 2)
    assert reserve(database) == (big, "one")
    if what == "cancelled":
        cancel(database, big)
    elif what == "draining":
        with database.transaction() as session:
            workers.drain(session, "one")
    else:
        silence(database, "one")
    reserve(database)
    assert reserved_for(database) is None
    if what == "cancelled":
        assert len(place_all(database, me)) == 0
        want(database, 1)
        assert len(place_all(database, me)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_under_an_endless_stream_of_small_jobs_a_big_one_begins_in_bounded_time(database: Database, seed: int) -> None:
    """Rounds instead of time: each small job runs for at most `longest` rounds, and each worker always has more of them to take.

    Whoever waits has a worker reserved within a round, after which what runs there ends within `longest`; the jobs that are
    reserved for before it take as long each.
    """
    chance = random.Random(seed)
    longest, n_big = 4, 2
    them = [enter(database, name, gpus=4, cpus=0, sharing=seed == 2) for name in ("a", "b")]
    running: deque[tuple[int, scheduling.Placement]] = deque()
    big: list[str] = []
    began: dict[str, int] = {}
    for round_number in range(40):
        for ends_at, placed in list(running):
            if ends_at <= round_number:
                finish(database, placed)
                running.remove((ends_at, placed))
        while len(line_of(database)) < 6:
            want(database, 1, owner=chance.choice(["bob", "eve"]), permille=500 if seed == 2 else 1000)
        if round_number == 5:
            big = [want(database, 4, owner="ann") for _ in range(n_big)]
        reserve(database)
        for placed in place_all(database, *chance.sample(them, len(them))):
            began.setdefault(placed.held.job_id, round_number)
            running.append((round_number + chance.randint(1, longest), placed))
        with database.reading() as session:
            assert_slots_add_up(session)
        if big and all(job_id in began for job_id in big):
            break
    assert [began.get(job_id, 1000) - 5 <= n_big * (longest + 1) for job_id in big] == [True] * n_big, began


def line_of(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Job.id).where(Job.state == "queued")))


# What it costs; test_scale.py counts the other verbs too


def plan_of(database: Database, statement: str, values: object) -> str:
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.engine.connect() as connection:
        return "\n".join(" ".join(map(str, row)) for row in connection.exec_driver_sql(f"{explain} {statement}", values))  # type: ignore[arg-type]


def test_the_line_is_found_by_leaps_along_its_index_however_many_wait_or_have_ended(database: Database) -> None:
    crowd(database, n_queued=400, n_ended=1600)
    compiled = line.kinds(False).params(queue="default").compile(database.engine)
    values = compiled.params if not database.is_sqlite else tuple(compiled.params[name] for name in compiled.positiontup or ())
    plan = plan_of(database, str(compiled), values)
    assert plan.count("ix_jobs_waiting") == 2, plan
    assert "Seq Scan on jobs" not in plan, plan
    assert "SCAN jobs" not in plan.replace("SCAN kinds", ""), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
