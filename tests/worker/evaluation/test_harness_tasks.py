"""Tasks of lm-evaluation-harness by name. Those that ask are run where it is installed: pip install -e '.[eval]'."""

import importlib.util
import json
import math
import sys

import numpy as np
import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job
from tests.worker.stages.benchmarks import an_evaluation, results
from worker.evaluation.harness import Score, _by_question, _scores
from worker.failures import JobFailure
from worker.run import Stopped

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed: pip install -e '.[eval]'"
)

TASK = """
task: pets_quiz
dataset_path: json
dataset_kwargs:
  data_files:
    test: pets.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: right
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture
def task(host):
    folder = host.datasets / "evaluation"
    folder.mkdir()
    (folder / "pets_quiz.yaml").write_text(TASK)
    rows = [{"question": f"what is {n}", "choices": ["a fox", "a dog", "the human"], "right": n % 3} for n in range(12)]
    (folder / "pets.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def of_the_harness(*checkpoints, **evaluation):
    return an_evaluation(*checkpoints, evaluation={"task": "lm_eval:pets_quiz", "n_shot": 0} | evaluation)


def test_a_worker_without_the_library_says_so(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobFailure, match="does not have lm-evaluation-harness") as failure:
        host.done(of_the_harness())
    assert failure.value.reason == "missing_library"


TOLD = {
    "results": {"quiz": {"alias": "quiz", "acc,none": 0.75, "acc_stderr,none": 0.2, "f1,strict": 0.5, "f1_stderr,strict": "N/A"}},
    "n-samples": {"quiz": {"original": 4, "effective": 4}},
    "samples": {
        "quiz": [
            *({"doc_id": n, "filter": "none", "acc": float(n > 0)} for n in (3, 2, 1, 0)),
            *({"doc_id": n, "filter": "strict", "f1": (n, n)} for n in range(4)),
        ]
    },
}


def test_what_the_harness_tells_is_taken_with_each_question_where_a_figure_is_their_mean():
    assert list(_scores(TOLD)) == [
        Score("quiz", "acc", 0.75, 4, [0.0, 1.0, 1.0, 1.0]),
        Score("quiz", "f1.strict", 0.5, 4, None),
    ]


def test_a_figure_that_is_no_mean_over_questions_has_no_interval_of_ours():
    assert _by_question([{"doc_id": 0, "acc": 1.0, "filter": "none"}], "acc", 0.5) is None
    finding = Score("quiz", "ppl", 12.5, 4, None).finding()
    assert finding.estimate.value == 12.5
    assert "no value of each question" in finding.why_no_interval


@pytest.mark.parametrize("task_dir", ["evaluation", "evaluation/mine", "."])
def test_a_folder_that_jobs_write_into_is_no_folder_of_tasks(host, task_dir):
    """A task's YAML may name functions, which the harness runs: of a client's it would be the client's code."""
    (host.datasets / "evaluation" / "mine").mkdir(parents=True)
    host.artifacts.rmdir()
    host.artifacts = host.datasets / "evaluation" / "mine"
    error = host.attempt(of_the_harness(task_dir=task_dir)).error
    assert error.reason == Reason.BAD_DATA
    assert error.sentence.startswith(f"{task_dir!r} is not the operator's alone: jobs write there")


@needs_harness
def test_a_task_of_the_harness_is_asked_by_its_name(host, task):
    attempt = host.done(of_the_harness())
    rows = attempt.rows()
    assert {name for _, name in rows} == {"harness_score:acc", "harness_score:acc_norm"}
    row = rows[None, "harness_score:acc"]
    (found,) = results(host, attempt)["models"]
    score = found["scores"][0]
    assert (score["task"], score["metric"], score["n"]) == ("pets_quiz", "acc", 12)
    assert row["value"] == score["value"] == pytest.approx(sum(score["by_question"]) / 12)
    assert row["interval"][0] < row["value"] < row["interval"][1]
    assert row["standard_error"] == pytest.approx(np.std(score["by_question"], ddof=1) / math.sqrt(12))


@needs_harness
def test_checkpoints_are_compared_question_by_question_and_asked_once(host, task):
    document = a_job(training={"learning_rate": 0.3})
    job_id = host.remember(document, host.done(document))
    asked = of_the_harness(f"{job_id}/sft/2", f"{job_id}/sft")

    def stop(message, run):
        if message["message"] == "measurement" and message["global_step"] == 1:
            run.wish = "stop"

    first = host.attempt(asked, when=stop)
    assert isinstance(first.error, Stopped)
    second = host.done(asked, [first])
    assert second.measured()[:1] == [None]
    scores = {model["model"]: model["scores"][0] for model in results(host, second)["models"]}
    assert list(scores) == ["base", 1, 2]
    versus = second.rows()[2, "harness_score:acc"]["versus_base"]
    assert versus["value"] == pytest.approx(scores[2]["value"] - scores["base"]["value"])
    assert versus["standard_error"] is not None


@needs_harness
@pytest.mark.parametrize(
    ("change", "reason", "sentence"),
    [
        ({"task": "lm_eval:no_such_task"}, "missing_data", "no task 'no_such_task'"),
        ({"task": "lm_eval:arc_easy"}, "bad_data", "The task 'arc_easy' cannot be asked"),
    ],
)
def test_a_task_that_is_not_there_or_whose_data_is_not_fails_the_job(host, task, change, reason, sentence):
    with pytest.raises(JobFailure, match=sentence) as failure:
        host.done(of_the_harness(**change))
    assert failure.value.reason == reason
