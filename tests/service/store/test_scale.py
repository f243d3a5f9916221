"""No verb costs more among many jobs than among few. benchmarks/queue_scale.py times the same beside 110,000."""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from service.store import jobs, leases, limits, place, references, removals, retention, scheduling, wishes, workers
from service.store.session import Database
from service.store.states import State
from tests.service.store.crowds import crowd, disperse, effort
from tests.service.store.staffed import enter

MOST = 1.5
A_LEVEL = 8  # an index of more rows has a level more, whoever walks down
QUEUES = ("default",)
PAGE = 5

Verb = Callable[[Session, workers.Identity], Any]

LOOKS: dict[str, Verb] = {
    "look for a job": lambda session, me: scheduling.best(session, me),
    "list": lambda session, me: jobs.listing(session, "owner-1", PAGE),
    "list behind a job": lambda session, me: jobs.listing(session, "owner-1", PAGE, after="job-40"),
    "list of a state": lambda session, me: jobs.listing(session, "owner-1", PAGE, state=State.FAILED),
    "list of a label": lambda session, me: jobs.listing(session, "owner-1", PAGE, labels={"rare": "yes"}),
    "list of two labels": lambda session, me: jobs.listing(session, "owner-1", PAGE, labels={"rare": "yes", "all": "yes"}),
    "get": lambda session, me: jobs.of_ids(session, ["job-7"]),
    "place of the first in line": lambda session, me: place.of_job(session, "job-1"),
    "what refers to a job": lambda session, me: references.live_references(session, "job-7"),
    "what is to be removed": lambda session, me: removals.waiting(session),
}

WRITES: dict[str, Verb] = {
    "rescue": lambda session, me: leases.rescue(session),
    "limits": lambda session, me: limits.end_late(session),
    "retention": lambda session, me: retention.expire(session),
    "bells": lambda session, me: leases.unheard(session, QUEUES, 60),
    "what cannot be read": lambda session, me: scheduling.tell_unreadable(session, QUEUES),
    "what is installed nowhere": lambda session, me: scheduling.tell_lacking_extras(session, QUEUES),
    "reservations": lambda session, me: scheduling.reserve(session, QUEUES, 60),
    "old notes of removals": lambda session, me: removals.forget_old(session),
    "cancel": lambda session, me: wishes.cancel(session, "owner-1", "job-7"),
    "claim": lambda session, me: scheduling.claim(session, me, 60, "job-40"),
}


def test_a_verb_costs_as_much_among_few_jobs_as_among_many(database: Database) -> None:
    few = costs(database, n_queued=50, n_ended=50)
    many = costs(database, n_queued=1000, n_ended=3000)
    assert {what: (cost, few[what]) for what, cost in many.items() if cost > MOST * few[what] + A_LEVEL} == {}


def costs(database: Database, n_queued: int, n_ended: int) -> dict[str, float]:
    disperse(database)
    me = enter(database, cpus=1) if n_queued == 50 else workers.Identity("one", "1")
    crowd(database, n_queued, n_ended)

    def look(verb: Verb) -> None:
        with database.reading() as session:
            verb(session, me)

    def write(verb: Verb) -> None:
        with database.transaction() as session:
            verb(session, me)

    counted = {what: effort(database, lambda verb=verb: look(verb)) for what, verb in LOOKS.items()}  # type: ignore[misc]
    return counted | {what: effort(database, lambda verb=verb: write(verb)) for what, verb in WRITES.items()}  # type: ignore[misc]
