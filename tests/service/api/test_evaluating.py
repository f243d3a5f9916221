"""POST /jobs of a job that evaluates: whether its questions can be asked is known before any worker looks."""

from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.store import leases
from tests.service.api import made
from tests.service.api.door import Door
from tests.worker.stages import benchmarks
from tests.worker.stages.benchmarks import add_task, an_evaluation


@pytest.fixture
def quiz(settings: Any) -> Path:
    return add_task(settings.datasets_root)


def evaluating(**evaluation: Any) -> dict[str, Any]:
    return an_evaluation(evaluation=evaluation)


def test_a_dry_run_counts_the_questions(plain_door: Any, quiz: Path) -> None:
    answer = plain_door.post("/jobs?dry_run=true", json=evaluating()).json()
    (step,) = answer["steps"]
    assert (step["do"], step["measured_rows"], step["updates"], step["rows"]) == ("evaluate", 13, 0, 0)
    assert answer["resolved"]["steps"][0]["evaluation"]["task"] == "quiz"
    (step,) = plain_door.post("/jobs?dry_run=true", json=evaluating(split="validation")).json()["steps"]
    assert step["measured_rows"] == 4
    (step,) = plain_door.post("/jobs?dry_run=true", json=evaluating(task="lm_eval:arc_easy")).json()["steps"]
    assert step["measured_rows"] is None
    assert "lm-evaluation-harness" in step["why_unknown"]["measured_rows"]


@pytest.mark.parametrize(
    ("evaluation", "pointer", "part"),
    [
        ({"task": "riddles"}, "/evaluation/task", "There is no task 'riddles' in 'evaluation'; there are quiz."),
        ({"task_dir": "nowhere"}, "/evaluation/task_dir", "no folder 'nowhere'"),
        ({"task_dir": "../.."}, "/evaluation/task_dir", "leaves its folder"),
        ({"task": "lm_eval:x", "task_dir": "/etc"}, "/evaluation/task_dir", "leaves its folder"),
    ],
)
def test_what_is_not_there_is_refused(plain_door: Any, quiz: Path, evaluation: Any, pointer: str, part: str) -> None:
    ((found, detail),) = plain_door.refusals(evaluating(**evaluation))
    assert found == pointer
    assert part in detail


@pytest.mark.parametrize("written", ["artifacts_root", "exports_root", "cache_root"])
@pytest.mark.parametrize("task_dir", ["evaluation", "evaluation/mine", "evaluation/mine/deeper", ".", "linked"])
def test_tasks_that_may_hold_code_are_not_taken_from_where_jobs_write(
    settings: Any, database: Any, bell: Any, plain_door: Any, quiz: Path, task_dir: str, written: str
) -> None:
    mine = settings.datasets_root / "evaluation" / "mine"
    (mine / "deeper").mkdir(parents=True)
    (settings.datasets_root / "linked").symlink_to(mine)
    of_the_harness = evaluating(task="lm_eval:anything", task_dir=task_dir)
    assert plain_door.post("/jobs?dry_run=true", json=of_the_harness).status_code == 200
    with Door(create_app(settings.model_copy(update={written: mine}), database, bell)) as door:
        ((pointer, detail),) = door.refusals(of_the_harness)
        assert door.post("/jobs?dry_run=true", json=evaluating()).status_code == 200, "a csv of questions holds no code"
    assert (pointer, "not the operator's alone" in detail) == ("/evaluation/task_dir", True)


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (["what", "a", "b", "c", "d", "E"], "row 2 has the answer 'E'"),
        (["what", "a", "b", "c", "d", "e", "A"], "row 2 has 7 cells"),
        (["what", "a", "b", "c", "d"], "row 2 has 5 cells"),
        (["what", "a", "b", "c", "d", ""], "row 2 has no answer"),
    ],
)
def test_a_row_that_is_no_question_is_refused_with_its_place(plain_door: Any, quiz: Path, row: list[str], part: str) -> None:
    benchmarks.write(quiz, "words", "test", [["what", "a", "b", "c", "d", "A"], row])
    for path in ("/jobs", "/jobs?dry_run=true"):
        ((pointer, detail),) = plain_door.refusals(evaluating(), path)
        assert pointer == "/evaluation/task"
        assert "test/words_test.csv" in detail
        assert part in detail
        assert str(quiz) not in detail


def test_a_folder_of_results_is_filled_once(door: Any, database: Any, settings: Any, quiz: Path) -> None:
    """A retry of the job that fills it is no new job."""
    first = door.submit(evaluating(save_dir="mine"))
    held = made.claim(database)
    made.artifact(database, held, settings.artifacts_root, "mine/results.json", b"{}")
    ((pointer, detail),) = door.refusals(evaluating(save_dir="mine"))
    assert pointer == "/evaluation/save_dir"
    assert first in detail
    assert door.refusals(evaluating(save_dir="mine"), "/jobs?dry_run=true") == [(pointer, detail)]
    door.submit(evaluating(save_dir="other"))
    with database.transaction() as session:
        leases.fail(session, held, "internal_error", "It failed.")
    assert door.post(f"/jobs/{first}/retry").status_code == 200
    assert door.post(f"/jobs/{first}/cancel").status_code == 200
    assert door.delete(f"/jobs/{first}").status_code == 204
    door.submit(evaluating(save_dir="mine"))


def test_a_place_of_a_measure_is_found_by_the_measures_name_and_by_its_split(door: Any, database: Any, quiz: Path) -> None:
    job_id = door.submit(evaluating())
    held = made.claim(database)
    made.measure(database, held, "evaluate", -1, split="test", **{"accuracy": 0.4, "accuracy:STEM": 0.5, "equivocation": 1.0})
    (entry,) = door.get(f"/jobs/{job_id}/metrics?measure=accuracy&split=test").json()["data"]
    assert (entry["checkpoint"], entry["split"]) == ("base", "test")
    assert {name: one["value"] for name, one in entry["measures"].items()} == {"accuracy": 0.4, "accuracy:STEM": 0.5}


def test_checkpoints_that_are_evaluated_are_told_by_what_they_are(door: Any, database: Any, quiz: Path) -> None:
    steps = [{"name": "asked", "model": {"model_name_or_path": "org/small"}}]
    job_id = door.submit(an_evaluation(steps=steps))
    held = made.claim(database)
    made.measure(database, held, "asked", 1, split="test", accuracy=0.4)
    (entry,) = door.get(f"/jobs/{job_id}/metrics").json()["data"]
    assert entry["of"] == {"job_id": None, "step": None, "checkpoint": None, "model": "org/small"}
