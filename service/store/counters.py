"""What is counted for operators: how jobs and attempts ended, and the writes that the fence refused. A count never falls.

To count is to add a row, in the transaction of what is counted: a row that many would raise at once makes them wait for each
other, in an order that nobody keeps. The sweep folds many rows into few, in one transaction: the sum is the same behind it.
"""

from collections import Counter
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy.orm import Session

from service.store.tables import Count

# There are some sixty kinds of rows: fewer than so many are left as they are.
WORTH_FOLDING = 200

Counts = dict[tuple[str, str], int]  # by two labels, the second of which may be empty


class Tally(StrEnum):
    """What is counted, by which labels."""

    JOBS_ENDED = "jobs_ended"  # state, reason
    ATTEMPTS_ENDED = "attempts_ended"  # outcome
    LEASES_LOST = "leases_lost"  # of workers that were not heard of in time
    JOBS_BEGUN = "jobs_begun"  # queue; by their first attempts
    SECONDS_WAITED = "seconds_waited"  # queue; of those, until it
    WRITES_FENCED = "writes_fenced"  # of workers that no longer held their job


_INSERT = insert(cast(Table, Count.__table__))


def add(session: Session, what: Tally, label: str = "", second: str = "", n: int = 1) -> None:
    session.execute(_INSERT, [_row(what, label, second, n)])


def add_wait(session: Session, queue: str, seconds: float) -> None:
    """Of a job that begins for the first time."""
    rows = [_row(Tally.JOBS_BEGUN, queue), _row(Tally.SECONDS_WAITED, queue, n=round(seconds))]
    session.execute(_INSERT, rows)


def _row(what: Tally, label: str = "", second: str = "", n: int = 1) -> dict[str, Any]:
    return {"what": str(what), "label": label, "second": second, "n": n}


def totals(session: Session) -> dict[str, Counts]:
    """By what is counted."""
    found: dict[str, Counts] = {str(what): {} for what in Tally}
    summed = select(Count.what, Count.label, Count.second, func.sum(Count.n)).group_by(Count.what, Count.label, Count.second)
    for what, label, second, n in session.execute(summed):
        found.setdefault(what, {})[label, second] = int(n)
    return found


def fold(session: Session, most: int = 1000) -> None:
    """Makes few rows of many, once there are some. Any number of processes may do so at once: each takes rows of its own."""
    oldest = select(Count.id).order_by(Count.id).limit(most).with_for_update(skip_locked=True)
    ids = session.scalars(oldest).all()
    if len(ids) < WORTH_FOLDING:
        return
    gone = delete(Count).where(Count.id.in_(ids)).returning(Count.what, Count.label, Count.second, Count.n)
    sums: Counter[tuple[str, str, str]] = Counter()
    for what, label, second, n in session.execute(gone.execution_options(synchronize_session=False)):
        sums[what, label, second] += n
    folded = [{"what": what, "label": label, "second": second, "n": n} for (what, label, second), n in sums.items()]
    session.execute(_INSERT, folded)
