import json
from typing import Any

from service.cli.inspect import lines
from tests.service.cli.conftest import Finebits
from tests.service.fake_service import FakeService

JOB = f"job-{1:024x}"


def a_step(name: str, stage: str, **data: Any) -> dict[str, Any]:
    given = {"template": None, "dataset_dir": "data", "cutoff_len": 64, "reserved_label_len": 1, "train_on_prompt": False}
    return {
        "name": name,
        "model": {"model_name_or_path": "@pt" if name == "sft" else "tiny"},
        "data": given | data,
        "finetuning": {"stage": stage},
    }


def test_measure_reads_text_as_the_step_did_and_compares_with_what_its_job_began_with(
    service: FakeService, finebits: Finebits
) -> None:
    steps = [a_step("pt", "pt"), a_step("sft", "sft", template="alpaca")]
    service.answers("GET", f"/jobs/{JOB}", {"resolved": {"steps": steps}})
    service.answers("POST", "/jobs", {"id": "job-2", "state": "queued"})
    done = finebits("measure", f"{JOB}/sft/4", f"{JOB}/pt", "--dataset", "letters", "--names", "entropy")
    assert done.stdout == "job-2 is queued.\n"
    sent = json.loads(service.asked[-1].body)
    assert sent["do"] == "measure"
    assert sent["model"] == {"model_name_or_path": "tiny"}
    assert sent["data"]["template"] == "alpaca"
    assert sent["finetuning"] == {"stage": "sft"}
    assert sent["measures"] == {"checkpoints": [f"{JOB}/sft/4", f"{JOB}/pt"], "dataset": "letters", "names": "entropy"}


def test_measure_of_what_is_no_checkpoint_is_a_sentence(finebits: Finebits) -> None:
    done = finebits("measure", "@sft", "--dataset", "letters")
    assert done.exit_code != 0
    assert "is no checkpoint of a job" in done.output


def test_an_inspection_is_told_in_lines() -> None:
    found = {
        "rows": 9,
        "held_out_rows": 1,
        "coverage": {"tokens": 200, "trained_tokens": 50},
        "lower_bounds": ["joint_entropy"],
        "measures": {
            "joint_entropy": {"value": 3.25, "unit": "bits"},
            "leaked_share": {"value": None, "unit": "1"},
        },
        "duplicates": [{"file": "a.json", "row": 3, "like_file": "a.json", "like_row": 1, "shared_n_grams": 0.9}],
        "leaks": [],
    }
    said = [" ".join(line.split()) for line in lines(found)]
    assert said == [
        "9 rows, 1 held out; 25 % of 200 tokens are trained.",
        "joint_entropy 3.25 bits or more",
        "leaked_share unknown 1",
        "a.json row 3 is like a.json row 1: 90 % of its n-grams",
    ]
