"""Jobs that measure what earlier jobs made, before any worker has seen them."""

from typing import Any

import pytest

from service.specs.checkpoint_names import CheckpointName
from service.store import jobs, metrics, referred, retention, wishes
from service.store.errors import InUse
from service.store.session import Database
from tests.service.api import made
from tests.service.api.door import Door
from tests.specs.job_documents import a_job

FILES = {"adapter_model.safetensors": b"0123"}


def an_earlier_job(door: Door, database: Database, *saved: int) -> str:
    """Trained to its end in one step, which ended with the last of these checkpoints."""
    job_id = door.submit()
    held = made.claim(database)
    for global_step in saved:
        made.checkpoint(database, held, "sft", global_step, FILES)
    made.finish_step(database, held, "sft", f"{job_id}/1/sft/checkpoint-{saved[-1]}")
    made.succeed(database, held)
    return job_id


def measuring(*checkpoints: str, **measures: Any) -> dict[str, Any]:
    return a_job(do="measure", measures={"checkpoints": list(checkpoints), **measures})


def resolved(door: Door, document: Any) -> list[str]:
    response = door.post("/jobs?dry_run=true", json=document)
    assert response.status_code == 200, response.text
    return list(response.json()["resolved"]["steps"][0]["measures"]["checkpoints"])


def test_names_are_written_out_by_number_when_the_job_comes(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20, 9, 40)
    assert resolved(plain_door, measuring(f"{earlier}/sft")) == [f"{earlier}/sft/40"]
    assert resolved(plain_door, measuring(f"{earlier}/sft/9", f"{earlier}/sft/*")) == [
        f"{earlier}/sft/{number}" for number in (9, 20, 40)
    ]
    (planned,) = plain_door.post("/jobs?dry_run=true", json=measuring(f"{earlier}/sft")).json()["steps"]
    assert (planned["do"], planned["updates"], planned["trainable_parameters"]) == ("measure", 0, 0)
    assert planned["measured_rows"] == planned["rows"]
    job = plain_door.post("/jobs", json=measuring(f"{earlier}/sft")).json()
    assert job["resolved"]["steps"][0]["measures"]["checkpoints"] == [f"{earlier}/sft/40"]
    assert job["spec"]["measures"]["checkpoints"] == [f"{earlier}/sft"]
    assert job["steps"][0]["do"] == "measure"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("job-000000000000000000000000/sft", "There is no job job-000000000000000000000000."),
        ("{job}/dpo", "has no step 'dpo' that trains or exports a model; it has sft."),
        ("{job}/sft/5", "There is no checkpoint 5 of {job}/sft; there are 20, 40."),
    ],
)
def test_what_is_not_there_is_refused_in_its_place(plain_door: Door, name: str, part: str) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20, 40)
    (refusal,) = plain_door.refusals(measuring(f"{earlier}/sft/20", name.format(job=earlier)))
    assert refusal == ("/measures/checkpoints/1", refusal[1])
    assert part.format(job=earlier) in refusal[1]
    assert plain_door.refusals(measuring(f"{earlier}/sft/20", name.format(job=earlier)), "/jobs?dry_run=true") == [refusal]


def test_a_step_that_is_not_done_has_ended_with_nothing(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = plain_door.submit()
    made.checkpoint(database, made.claim(database), "sft", 5, FILES)
    (refusal,) = plain_door.refusals(measuring(f"{earlier}/sft"))
    assert "is not done" in refusal[1]
    assert resolved(plain_door, measuring(f"{earlier}/sft/5")) == [f"{earlier}/sft/5"]


def test_another_owners_checkpoint_is_as_good_as_none(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20)
    with database.reading() as session:
        assert referred.found(session, "local", CheckpointName(earlier, "sft")) == [CheckpointName(earlier, "sft", 20)]
        with pytest.raises(referred.NoCheckpoint, match="There is no job"):
            referred.found(session, "somebody", CheckpointName(earlier, "sft"))


def test_a_checkpoint_that_was_removed_is_refused(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    plain_door.submit()
    held = made.claim(database)
    for global_step in (1, 2, 3):
        made.checkpoint(database, held, "sft", global_step, FILES)
    with made.behind_the_fence(database, held) as session:
        assert retention.thin(session, held, "sft", newest=1, best=None) == [1, 2]
    (refusal,) = plain_door.refusals(measuring(f"{held.job_id}/sft/2"))
    assert "Checkpoint 2" in refusal[1]
    assert "is kept no longer; there are 3." in refusal[1]


def test_what_is_to_be_measured_is_kept_until_it_is(door: Door, database: Database) -> None:
    earlier = door.submit()
    held = made.claim(database)
    for global_step in (1, 10, 100):
        made.checkpoint(database, held, "sft", global_step, FILES)
    later = door.submit(measuring(f"{earlier}/sft/10"))
    with made.behind_the_fence(database, held) as session:
        assert retention.thin(session, held, "sft", newest=1, best=None) == [1]
    made.succeed(database, held)
    with pytest.raises(InUse), database.transaction() as session:
        wishes.delete(session, "local", earlier)
    with database.transaction() as session:
        wishes.cancel(session, "local", later)
    with database.transaction() as session:
        wishes.delete(session, "local", earlier)


def test_a_worker_is_told_of_the_jobs_that_it_measures_of_the_same_owner(door: Door, database: Database) -> None:
    earlier = an_earlier_job(door, database, 20)
    later = door.submit(measuring(f"{earlier}/sft"))
    with database.reading() as session:
        steps = jobs.resolved(jobs.get(session, "local", later))
        told = referred.earlier_jobs(session, later, steps)
    assert set(told) == {earlier}
    assert told[earlier]["outputs"] == {"sft": f"{earlier}/1/sft/checkpoint-20"}
    ((saved,),) = told[earlier]["checkpoints"].values()
    assert (saved["global_step"], saved["path"]) == (20, f"{earlier}/1/sft/checkpoint-20")


def test_measures_say_which_checkpoint_they_are_of(door: Door, database: Database) -> None:
    earlier = an_earlier_job(door, database, 20, 40)
    later = door.submit(measuring(f"{earlier}/sft/40", f"{earlier}/sft/20"))
    held = made.claim(database)
    for number in (-1, 1, 2):
        made.measure(database, held, "measure", number, cross_entropy=2.0)
    rows = door.get(f"/jobs/{later}/metrics").json()["data"]
    whole = {"job_id": earlier, "step": "sft", "model": None}
    assert [(row["checkpoint"], row["of"]) for row in rows] == [
        ("base", None),
        (1, whole | {"checkpoint": 40}),
        (2, whole | {"checkpoint": 20}),
    ]
    assert door.get(f"/jobs/{earlier}/metrics").json()["data"] == []


def test_a_model_of_the_folder_needs_no_checkpoint(plain_door: Door) -> None:
    document = a_job(do="measure", data={"dataset": None}, measures={"dataset": "letters"})
    job = plain_door.post("/jobs", json=document).json()
    assert job["steps"][0]["name"] == "measure"


def test_what_a_step_measured_is_ranked_and_stands_on_the_front(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20, 40)
    job_id = plain_door.submit(measuring(f"{earlier}/sft/20", f"{earlier}/sft/40"))
    held = made.claim(database)
    for number, bits, drift in ((1, 3.0, 0.1), (2, 2.0, 0.2)):
        told = [made.a_metric(number, "cross_entropy", bits), made.a_metric(number, "kl_from_base", drift)]
        told[0]["versus_base"] = {"value": bits - 4.0, "standard_error": 0.1}
        with made.behind_the_fence(database, held) as session:
            metrics.record_measurement(session, held, "measure", number, "validation", {})
            metrics.record(session, held, "measure", "validation", told)
    found = plain_door.get(f"/jobs/{job_id}/checkpoints?rank_by=cross_entropy").json()
    assert found["data"] == []
    assert [(one["number"], one["rank"]["place"], one["pareto"]) for one in found["measured"]] == [(2, 1, True), (1, 2, True)]
    assert found["measured"][0]["of"] == {"job_id": earlier, "step": "sft", "checkpoint": 40, "model": None}
    assert found["measured"][0]["metrics"] == {"cross_entropy": 2.0, "kl_from_base": 0.2}
    assert [(it["step"], it["global_step"]) for it in found["front"]] == [("measure", 1), ("measure", 2)]
    assert [one["number"] for one in plain_door.get(f"/jobs/{job_id}/checkpoints").json()["measured"]] == [1, 2]
