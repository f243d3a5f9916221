"""Jobs that export, before any worker has seen them."""

from typing import Any

import pytest

from service.store import jobs, referred
from service.store.session import Database
from tests.service.api import made
from tests.service.api.door import Door
from tests.service.api.test_measuring_later import FILES, an_earlier_job
from tests.specs.job_documents import a_job


def exporting(of: str = "tiny", **groups: Any) -> dict[str, Any]:
    return {"do": "export", "model": {"model_name_or_path": of, **groups.pop("model", {})}, **groups}


def test_a_checkpoint_is_written_out_by_number_when_the_job_comes(plain_door: Door) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20, 40)
    asked = exporting(f"{earlier}/sft")
    planned = plain_door.post("/jobs?dry_run=true", json=asked).json()
    assert planned["resolved"]["steps"][0]["model"]["model_name_or_path"] == f"{earlier}/sft/40"
    (step,) = planned["steps"]
    assert (step["do"], step["updates"], step["parameters"]) == ("export", 0, None)
    job = plain_door.post("/jobs", json=asked).json()
    assert job["resolved"]["steps"][0]["model"]["model_name_or_path"] == f"{earlier}/sft/40"
    assert job["spec"]["model"]["model_name_or_path"] == f"{earlier}/sft"
    assert (job["steps"][0]["name"], job["steps"][0]["do"]) == ("export", "export")
    with database.reading() as session:
        told = referred.earlier_jobs(session, job["id"], jobs.resolved(jobs.get(session, "local", job["id"])))
    assert set(told) == {earlier}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("job-000000000000000000000000/sft", "There is no job job-000000000000000000000000."),
        ("{job}/dpo", "has no step 'dpo' that trains or exports a model; it has sft."),
        ("{job}/sft/5", "There is no checkpoint 5 of {job}/sft; there are 20."),
        ("{job}/sft/*", "One model is exported at a time"),
        ("nowhere", "There is no model 'nowhere'"),
    ],
)
def test_what_is_not_there_is_refused_in_its_place(plain_door: Door, name: str, part: str) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = an_earlier_job(plain_door, database, 20)
    (refusal,) = plain_door.refusals(exporting(name.format(job=earlier)))
    assert refusal[0] == "/model/model_name_or_path"
    assert part.format(job=earlier) in refusal[1]


def test_an_export_that_is_there_is_refused_unless_it_may_be_replaced(plain_door: Door, settings: Any) -> None:
    (settings.exports_root / "pets").mkdir(parents=True)
    asked = exporting(model={"export_dir": "pets"})
    for path in ("/jobs", "/jobs?dry_run=true"):
        ((place, why),) = plain_door.refusals(asked, path)
        assert place == "/model/export_dir"
        assert why == "There is an export 'pets' already: give another name, or set export.overwrite."
    plain_door.submit(asked | {"export": {"overwrite": True}})
    plain_door.submit(exporting(model={"export_dir": "dogs"}))


def test_a_pipeline_says_at_the_steps_place_what_is_there(plain_door: Door, settings: Any) -> None:
    (settings.exports_root / "pets").mkdir(parents=True)
    steps = [{"name": "sft"}, {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft", "export_dir": "pets"}}]
    ((place, _),) = plain_door.refusals(a_job(steps=steps))
    assert place == "/steps/1/model/export_dir"


def test_a_model_that_is_quantized_already_is_refused(plain_door: Door, settings: Any) -> None:
    config = settings.models_root / "tiny" / "config.json"
    config.write_text(config.read_text().replace("{", '{"quantization_config": {"quant_method": "gptq"}, ', 1))
    ((place, why),) = plain_door.refusals(exporting())
    assert place == "/model/model_name_or_path"
    assert "is quantized (gptq)" in why


def test_what_a_job_exported_is_a_model_for_later_jobs(plain_door: Door) -> None:
    database: Database = plain_door.app.state.database  # type: ignore[attr-defined]
    earlier = plain_door.submit(exporting())
    held = made.claim(database)
    made.checkpoint(database, held, "export", 0, FILES)
    made.finish_step(database, held, "export", f"{earlier}/1/export/checkpoint-0")
    made.succeed(database, held)
    files = plain_door.get(f"/jobs/{earlier}/artifacts").json()["data"]
    assert [file["name"] for file in files] == ["export/checkpoint-0/adapter_model.safetensors"]
    later = a_job(do="measure", measures={"checkpoints": f"{earlier}/export"})
    planned = plain_door.post("/jobs?dry_run=true", json=later).json()
    assert planned["resolved"]["steps"][0]["measures"]["checkpoints"] == [f"{earlier}/export/0"]


def test_an_adapter_that_was_exported_alone_is_none(plain_door: Door) -> None:
    database: Database = plain_door.app.state.database  # type: ignore[attr-defined]
    steps = [{"name": "sft"}, {"name": "alone", "do": "export", "model": {"model_name_or_path": "@sft"}}]
    steps[1]["export"] = {"adapter_only": True}
    earlier = plain_door.submit(a_job(steps=steps))
    held = made.claim(database)
    made.checkpoint(database, held, "alone", 0, FILES)
    ((_, why),) = plain_door.refusals(exporting(f"{earlier}/alone/0"))
    assert "has no step 'alone' that trains or exports a model; it has sft." in why
