import json

import pytest

from service.specs.read import read_job
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService
from tests.specs.job_documents import a_job

JOB = f"job-{1:024x}"


@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_a_checkpoint_is_exported_with_the_rows_that_its_step_held_out(
    service: FakeService, finebits: Finebits, stage: str
) -> None:
    given = {"dataset": "letters", "val_size": 0.25, "cutoff_len": 32, "dataset_dir": "there"}
    template = {} if stage == "pt" else {"template": "alpaca"}
    trained = a_job(data=given | template, finetuning={"stage": stage, "finetuning_type": "full"})
    service.answers("GET", f"/jobs/{JOB}", {"resolved": read_job(trained).resolved.model_dump(mode="json")})
    service.answers("POST", "/jobs", {"id": "job-2", "state": "queued"})
    done = finebits("export", f"{JOB}/{stage}/4", "--to", "letters-1", "--overwrite")
    assert done.stdout == "job-2 is queued.\n"
    (step,) = read_job(json.loads(service.asked[-1].body)).resolved.steps
    assert (step.do, step.finetuning.stage) == ("export", stage)
    assert (step.model.model_name_or_path, step.model.export_dir) == (f"{JOB}/{stage}/4", "letters-1")
    read = step.data
    assert (read.dataset, read.val_size, read.cutoff_len, read.dataset_dir) == (("letters",), 0.25, 32, "there")
    assert read.template == template.get("template")
    assert (step.export.overwrite, step.export.adapter_only) == (True, False)


def test_an_export_of_what_is_no_checkpoint_is_a_sentence(finebits: Finebits) -> None:
    done = finebits("export", "sft")
    assert done.exit_code != 0
    assert "'sft' is no checkpoint of a job" in done.output
