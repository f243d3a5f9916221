"""What was tested of the checkpoints, and the event of each alert that fired."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.specs.alerts import BY_NAME
from service.store import events
from service.store.leases import Claim
from service.store.tables import AlertTest
from service.store.upsert import upsert


def record(session: Session, held: Claim, step: str, split: str, tests: list[dict[str, Any]]) -> None:
    """Keeps the tests of one checkpoint, and tells of what fired, once. Call it behind the fence, after its measurement."""
    known = {(test.global_step, test.alert) for test in of_job(session, held.job_id, step=step, split=split) if test.fires}
    upsert(session, AlertTest, [{"job_id": held.job_id, "step": step, "split": split, **test} for test in tests])
    for test in tests:
        if test["fires"] and (test["global_step"], test["alert"]) not in known:
            told = {"step": step, "split": split, **test, "suggests": BY_NAME[test["alert"]].suggests}
            events.add(session, held.job_id, events.Kind.ALERT, sentence(step, split, test), told)


def sentence(step: str, split: str, test: dict[str, Any]) -> str:
    """What an alert says to people."""
    alert = BY_NAME[test["alert"]]
    found = f"{alert.statistic} is {test['statistic']:.3g} {test['unit']}"
    if test["bound"] != test["statistic"]:
        found += f", {'at least' if alert.fires == 'above' else 'at most'} {test['bound']:.3g}"
    where = f"checkpoint {test['global_step']} of {step}, {split}"
    return f"{alert.name} ({where}): {found}, where {test['threshold']:.3g} is the limit. It suggests {alert.suggests}."


def of_job(
    session: Session,
    job_id: str,
    step: str | None = None,
    global_step: int | None = None,
    split: str | None = None,
) -> Sequence[AlertTest]:
    """By step, checkpoint and text, in the order of the names."""
    wanted = select(AlertTest).where(AlertTest.job_id == job_id)
    for column, value in ((AlertTest.step, step), (AlertTest.global_step, global_step), (AlertTest.split, split)):
        if value is not None:
            wanted = wanted.where(column == value)
    return session.scalars(wanted.order_by(AlertTest.step, AlertTest.global_step, AlertTest.split, AlertTest.alert)).all()
