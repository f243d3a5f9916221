from typing import Any

from service.store import alerts, events
from service.store.leases import Claim
from service.store.session import Database
from tests.service.store.stored import hold, submit
from tests.service.store.test_metrics import a_measure, measured


def a_test(alert: str = "over_confidence", fires: bool | None = True, global_step: int = 10, **columns: Any) -> dict[str, Any]:
    plain = {"statistic": 0.2, "bound": 0.1, "threshold": 0.05, "unit": "bits/token"}
    return {
        "alert": alert,
        "global_step": global_step,
        "fires": fires,
        "k": 2,
        "alpha": 0.0015,
        "n_documents": 30,
        "reason": None,
    } | (plain | columns)


def record(database: Database, held: Claim, *tests: dict[str, Any], split: str = "validation") -> None:
    measured(database, held, *(a_measure(global_step=test["global_step"]) for test in tests), split=split)
    with database.transaction() as session:
        alerts.record(session, held, "sft", split, list(tests))


def told(database: Database, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    with database.reading() as session:
        return [(event.message, event.data) for event in events.after(session, job_id, 0, 100) if event.kind == "alert"]


def found(database: Database, job_id: str, **filters: Any) -> list[tuple[int, str, bool | None]]:
    with database.reading() as session:
        return [(test.global_step, test.alert, test.fires) for test in alerts.of_job(session, job_id, **filters)]


def test_every_test_is_kept_and_what_fired_is_an_event(database: Database) -> None:
    held = hold(database)
    few = "An alert needs at least 20 documents; there are 3."
    untested = a_test("over_fit", None, statistic=None, bound=None, reason=few)
    record(database, held, a_test(), a_test("numeric", False), untested)
    assert found(database, held.job_id) == [(10, "numeric", False), (10, "over_confidence", True), (10, "over_fit", None)]
    ((message, data),) = told(database, held.job_id)
    assert message == (
        "over_confidence (checkpoint 10 of sft, validation): cross_entropy − entropy of the checkpoint is 0.2 bits/token, at "
        "least 0.1, where 0.05 is the limit. It suggests sampling at a higher temperature, label_smoothing_factor, or fewer "
        "epochs."
    )
    assert (data["alert"], data["statistic"], data["bound"], data["threshold"]) == ("over_confidence", 0.2, 0.1, 0.05)
    assert (data["alpha"], data["k"], data["step"], data["split"]) == (0.0015, 2, "sft", "validation")
    assert data["suggests"].startswith("sampling at a higher temperature")


def test_an_alert_that_is_recorded_again_is_no_second_event(database: Database) -> None:
    held = hold(database)
    record(database, held, a_test())
    record(database, held, a_test())
    assert len(told(database, held.job_id)) == 1
    record(database, held, a_test(global_step=20))
    record(database, held, a_test(), split="anchor")
    assert len(told(database, held.job_id)) == 3, "another checkpoint, and another text"


def test_tests_are_found_by_checkpoint_and_text(database: Database) -> None:
    held = hold(database)
    record(database, held, a_test(), a_test(global_step=20))
    record(database, held, a_test("forgetting"), split="anchor")
    assert found(database, held.job_id, global_step=20) == [(20, "over_confidence", True)]
    assert found(database, held.job_id, split="anchor") == [(10, "forgetting", True)]
    assert found(database, submit(database)) == []
