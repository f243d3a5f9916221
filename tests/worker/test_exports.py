"""A pipeline that ends in an export, through a real worker: what clients and other programs find afterwards."""

import pytest

from service.store import artifacts, metrics, steps
from tests.running import Running, job
from worker import checkpoints

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_model_is_trained_exported_and_found_in_both_places(running: Running) -> None:
    running.start_worker()
    export = {"name": "export", "do": "export", "model": {"model_name_or_path": "@sft", "export_dir": "sums"}}
    document = job(training={"max_steps": 4, "save_steps": 4}, measures={"names": ""}, steps=[{"name": "sft"}, export])
    job_id = running.submit(document)
    ended = running.wait_for_end(job_id)
    assert ended.state == "succeeded", ended.sentence
    assert running.kinds(job_id)[-4:] == ["checkpoint_saved", "exported", "step_finished", "succeeded"]
    published = running.home / "exports" / "sums"
    assert checkpoints.is_complete(published)
    with running.database.reading() as session:
        listed = {file.name.removeprefix("export/checkpoint-0/"): file for file in artifacts.of_job(session, job_id)}
        done = steps.of_job(session, job_id)[-1]
        told = {row.measure: row.value for row in metrics.of_job(session, job_id, step="export", global_step=0)}
    for path in published.iterdir():
        if path.name != checkpoints.MANIFEST:
            assert listed[path.name].size == path.stat().st_size
            assert (running.artifacts / listed[path.name].path).read_bytes() == path.read_bytes()
    assert done.output == f"{job_id}/1/export/checkpoint-0"
    assert done.summary["certificate"]["passed"] is True
    assert done.summary["certificate"]["text"] == "held-out rows of sums"
    assert told["kl_from_base"] == pytest.approx(done.summary["certificate"]["kl_from_reference"]["mean"]["value"])
