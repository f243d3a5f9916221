"""What operators look at: what waits and runs, from indexes that hold just that, and the counts of what ended.

Nothing here grows with the jobs that have ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.orm import Session

from service.store import counters
from service.store.clock import moment, now
from service.store.counters import Counts
from service.store.line import QUEUED, RUNNING
from service.store.states import State
from service.store.tables import Job, Slot, WebhookDelivery, Worker
from service.store.workers import statuses

LATELY_SECONDS = 3600.0

# What holds of every job in a state, in the words of the index that holds that state alone; and of which SQLite sees at once that
# it need not look at all jobs.
_IN: dict[State, tuple[ColumnElement[bool], ColumnElement[bool]]] = {
    State.QUEUED: (Job.state == QUEUED, Job.queue >= ""),
    State.RUNNING: (Job.state == RUNNING, Job.lease_until > 0),
    State.PAUSED: (Job.state == literal_column("'paused'"), Job.queue >= ""),
}


class Live(NamedTuple):
    """Jobs of one state and queue that have not ended."""

    state: str
    queue: str
    n: int
    oldest_seconds: float  # since the oldest of them came


class Ended(NamedTuple):
    """Jobs that ended within the last hour."""

    state: str
    reason: str | None
    n: int


class Running(NamedTuple):
    """A running job's worker, and how fast it trains, where it has said so."""

    worker: str
    tokens_per_second: float | None


@dataclass(frozen=True)
class Overview:
    """One moment of the service."""

    live: Sequence[Live]
    counts: dict[str, Counts]  # by what is counted, since it is
    running: Sequence[Running]
    workers: dict[str, str]  # name -> status
    unheard_seconds: dict[str, float]  # of each worker
    slots: Sequence[Slot]
    webhooks_waiting: int
    webhooks_oldest_seconds: float


def overview(session: Session) -> Overview:
    at = float(session.execute(select(now())).scalar_one())
    workers = session.execute(select(Worker.name, Worker.heartbeat_at)).all()
    waiting = select(func.count(), func.min(WebhookDelivery.created_at)).where(WebhookDelivery.next_at.is_not(None))
    n_waiting, oldest = session.execute(waiting).one()
    return Overview(
        live=_live(session, at),
        counts=counters.totals(session),
        running=_running(session),
        workers={name: str(status) for name, status in statuses(session, [row.name for row in workers]).items()},
        unheard_seconds={row.name: max(0.0, at - row.heartbeat_at) for row in workers},
        slots=session.scalars(select(Slot).order_by(Slot.worker, Slot.position)).all(),
        webhooks_waiting=n_waiting,
        webhooks_oldest_seconds=0.0 if oldest is None else max(0.0, at - oldest),
    )


def ended_lately(session: Session) -> list[Ended]:
    """How the jobs of the last hour ended, without those that were forgotten since."""
    lately = Job.finished_at > moment() - LATELY_SECONDS
    counted = select(Job.state, Job.reason, func.count()).where(lately).group_by(Job.state, Job.reason)
    return [Ended(*row) for row in session.execute(counted)]


def _live(session: Session, at: float) -> list[Live]:
    counted = select(Job.queue, func.count(), func.min(Job.created_at)).group_by(Job.queue)
    found = {state: session.execute(counted.where(*conditions)).all() for state, conditions in _IN.items()}
    return [Live(str(state), queue, n, max(0.0, at - oldest)) for state, rows in found.items() for queue, n, oldest in rows]


def _running(session: Session) -> list[Running]:
    found = session.execute(select(Job.worker, Job.progress).where(*_IN[State.RUNNING]))
    return [Running(worker or "", _speed(progress)) for worker, progress in found]


def _speed(progress: dict[str, Any] | None) -> float | None:
    speed = (progress or {}).get("tokens_per_second")
    return float(speed) if isinstance(speed, int | float) else None
