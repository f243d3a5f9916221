"""Slots: taken with a claim, all or none, and freed in the transaction that ends the attempt.

A slot's `used_permille` is the sum of what is taken of it. It only moves by differences, under the row's lock, and the database
refuses more than the whole: whoever is mistaken about what is free takes nothing.
"""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from service.store.tables import Slot, TakenSlot


def of_worker(session: Session, worker: str) -> Sequence[Slot]:
    wanted = select(Slot).where(Slot.worker == worker).order_by(Slot.position)
    return session.scalars(wanted.execution_options(populate_existing=True)).all()


def of_workers(session: Session, workers: Sequence[str]) -> dict[str, list[Slot]]:
    """The same for several, in one query."""
    found: dict[str, list[Slot]] = {name: [] for name in workers}
    for slot in session.scalars(select(Slot).where(Slot.worker.in_(workers)).order_by(Slot.worker, Slot.position)):
        found[slot.worker].append(slot)
    return found


def taken(session: Session, workers: Sequence[str]) -> Sequence[TakenSlot]:
    """What is taken of those workers' slots, by whom."""
    return session.scalars(select(TakenSlot).where(TakenSlot.worker.in_(workers))).all()


def take(session: Session, job_id: str, places: Sequence[Slot], permille: int) -> None:
    """Takes so much of each place for a job that is being claimed. Raises IntegrityError where it is not there any more."""
    for slot in sorted(places, key=lambda slot: slot.position):  # one order for all who lock several
        _use(session, slot.worker, slot.position, permille)
        session.execute(insert(TakenSlot).values(job_id=job_id, worker=slot.worker, position=slot.position, permille=permille))


def free(session: Session, job_id: str) -> None:
    """Gives back whatever a job holds. The one road: `jobs.move` calls it for every job that stops running."""
    gone = session.execute(
        delete(TakenSlot)
        .where(TakenSlot.job_id == job_id)
        .returning(TakenSlot.worker, TakenSlot.position, TakenSlot.permille)
        .execution_options(synchronize_session=False)
    ).all()
    for use in sorted(gone, key=lambda use: (use.worker, use.position)):
        _use(session, use.worker, use.position, -use.permille)


def _use(session: Session, worker: str, position: int, permille: int) -> None:
    session.execute(
        update(Slot)
        .where(Slot.worker == worker, Slot.position == position)
        .values(used_permille=Slot.used_permille + permille)
        .execution_options(synchronize_session=False)
    )
