"""What a job that evaluates may say, and what it is read as."""

from typing import Any

import pytest

from service.specs.read import read_job
from tests.specs.job_documents import a_flat_job, a_job, pointers_of, refusals_of

MODEL = {"model_name_or_path": "tiny"}


def evaluating(**evaluation: Any) -> dict[str, Any]:
    return {"do": "evaluate", "model": MODEL, "evaluation": {"task": "mmlu", **evaluation}}


def test_an_evaluation_needs_no_data_set_and_no_template() -> None:
    (step,) = read_job(evaluating()).resolved.steps
    assert (step.name, step.do, step.evaluation.task) == ("evaluate", "evaluate", "mmlu")
    assert step.measures.names == ()


def test_a_pipeline_evaluates_what_it_trained_and_its_data_sets_are_nothing_to_that_step() -> None:
    steps = [
        {"name": "sft"},
        {"name": "asked", "do": "evaluate", "evaluation": {"n_shot": 0}, "measures": {"checkpoints": "@sft/2,@sft"}},
    ]
    job = a_job(
        steps=steps, evaluation={"task": "ceval", "lang": "zh"}, measures={"names": "cross_entropy"}, data={"val_size": 2}
    )
    trained, asked = read_job(job).resolved.steps
    assert trained.data.dataset == ("letters",)
    assert (asked.data.dataset, asked.data.val_size, asked.measures.names) == (None, 0, ())
    assert (asked.evaluation.task, asked.evaluation.lang, asked.evaluation.n_shot) == ("ceval", "zh", 0)
    assert asked.measures.checkpoints == ("@sft/2", "@sft")


def test_what_only_training_looks_at_is_refused_where_no_step_trains() -> None:
    document = evaluating() | {
        "training": {"learning_rate": 1.0},
        "data": {"dataset": "letters"},
        "measures": {"names": "entropy"},
    }
    assert sorted(pointers_of(document)) == ["/data/dataset", "/measures/names", "/training/learning_rate"]


def test_a_checkpoint_that_no_step_makes_is_refused() -> None:
    ((pointer, sentence),) = refusals_of(evaluating() | {"measures": {"checkpoints": "@sft"}})
    assert pointer == "/measures/checkpoints/0"
    assert "No earlier step" in sentence
    assert pointers_of(evaluating() | {"measures": {"checkpoints": "sft"}}) == ["/measures/checkpoints/0"]


@pytest.mark.parametrize(
    ("save_dirs", "pointers"),
    [
        (("mine", "mine"), ["/steps/1/evaluation/save_dir"]),
        (("b", None), ["/steps/0/evaluation/save_dir"]),
        (("mine", "other"), []),
        (("a", None), []),
    ],
)
def test_two_steps_do_not_save_into_one_folder(save_dirs: tuple[str | None, str | None], pointers: list[str]) -> None:
    steps = [{"name": name, "evaluation": {"save_dir": save_dir}} for name, save_dir in zip("ab", save_dirs, strict=True)]
    assert pointers_of(evaluating() | {"steps": steps}) == pointers


def test_a_flat_file_with_a_task_is_an_evaluation_and_says_so() -> None:
    document = {"model_name_or_path": "tiny", "task": "mmlu", "split": "validation", "seed": 7, "n_shot": 3}
    read = read_job(document)
    (step,) = read.resolved.steps
    assert step.do == "evaluate"
    assert (step.evaluation.split, step.evaluation.seed, step.evaluation.n_shot) == ("validation", 7, 3)
    assert [notice.pointer for notice in read.notices] == ["/task"]
    assert pointers_of(a_flat_job(task="mmlu", split="train")) == ["/split"]
    assert read_job(a_flat_job(task=None)).resolved.steps[0].do == "train"


def test_only_reading_again_is_refused_of_the_download_modes() -> None:
    assert refusals_of(evaluating(download_mode="reuse_cache_if_exists")) == []
    assert pointers_of(evaluating(download_mode="force_redownload")) == ["/evaluation/download_mode"]
