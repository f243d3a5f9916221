"""What a ppo step may name as its reward model, and rm as its measures: status 422's pointer and sentence."""

from typing import Any

import pytest

from service.specs.companions import companions
from service.specs.job import resolve
from service.specs.lineage import Lineage, lineage, lineages
from service.specs.measures import OF_PAIRS, WITHOUT_MEMBERSHIP
from service.specs.read import read_job
from tests.specs.job_documents import a_job, refusals_of

PAIRS = {"name": "rm", "finetuning": {"stage": "rm"}}
WHOLE = {"name": "whole", "finetuning": {"stage": "rm", "finetuning_type": "full"}}
SFT = {"name": "sft"}


def ppo(**finetuning: Any) -> dict[str, Any]:
    return {"name": "ppo", "finetuning": {"stage": "ppo", "reward_model": "@rm"} | finetuning}


REFUSED = [
    ([ppo()], "reward_model", "No earlier step is named 'rm'"),
    (
        [SFT, ppo(reward_model="@sft")],
        "reward_model",
        "The step 'sft' is of the stage sft; a reward model is made by",
    ),
    ([SFT, ppo(reward_model="@sft", reward_model_type="full")], "reward_model", "a reward model is made by the stage rm."),
    (
        [SFT, ppo(reward_model="tiny", reward_model_adapters="@sft", reward_model_type="full")],
        "reward_model_adapters",
        "a reward model is made by the stage rm.",
    ),
    (
        [WHOLE, ppo(reward_model="@whole")],
        "reward_model",
        "makes a whole model, not an adapter: name it as model_name_or_path, or as a reward_model of the type full",
    ),
    (
        [SFT, PAIRS | {"model": {"model_name_or_path": "@sft"}}, ppo()],
        "reward_model",
        "was trained on 'tiny' + '@sft', and here it would lie on 'tiny'",
    ),
    (
        [PAIRS, ppo(reward_model_adapters="a")],
        "reward_model_adapters",
        "only where stage is ppo and reward_model_type is full",
    ),
    ([PAIRS, ppo(reward_model_quantization_bit=4)], "reward_model_quantization_bit", "reward_model_type is full"),
    ([PAIRS, ppo(reward_model_quantization_bit=3, reward_model_type="full")], "reward_model_quantization_bit", "4 or 8"),
    (
        [PAIRS, ppo(reward_model="tiny", reward_model_type="full", reward_model_adapters="a,b", reward_model_quantization_bit=4)],
        "reward_model_adapters",
        "A quantized model takes one adapter only",
    ),
    ([PAIRS, ppo(finetuning_type="full", reward_model_type="lora")], "reward_model_type", "need reward_model_type full or api"),
    ([PAIRS, ppo(reward_model=None)], "reward_model", "The stage ppo needs a reward model."),
    ([PAIRS | {"finetuning": {"stage": "rm", "reward_model": "a"}}], "reward_model", "works only where stage is ppo"),
]


@pytest.mark.parametrize(("steps", "argument", "says"), REFUSED)
def test_a_reward_model_that_cannot_score_is_refused_in_its_place(steps: list[Any], argument: str, says: str) -> None:
    found = refusals_of(a_job(steps=steps))
    at = f"/steps/{len(steps) - 1}/finetuning/{argument}"
    assert [(pointer, says in detail) for pointer, detail in found if pointer == at] == [(at, True)], found


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("train_on_prompt", True, "works only where stage is sft"),
        ("sft_packing", True, "works only where stage is sft"),
        ("ignore_pad_token_for_loss", False, "works only where stage is pt or sft"),
    ],
)
def test_what_has_no_meaning_for_pairs_is_refused(argument: str, value: Any, says: str) -> None:
    ((pointer, detail),) = refusals_of(a_job(finetuning={"stage": "rm"}, data={argument: value}))
    assert (pointer, says in detail) == (f"/data/{argument}", True)


def test_smoothed_labels_have_no_meaning_for_pairs() -> None:
    ((pointer, _),) = refusals_of(a_job(finetuning={"stage": "rm"}, training={"label_smoothing_factor": 0.1}))
    assert pointer == "/training/label_smoothing_factor"


@pytest.mark.parametrize("key", ["load_best_model_at_end", "metric_for_best_model"])
@pytest.mark.parametrize("finetuning", [{"stage": "rm"}, {"stage": "ppo", "reward_model": "a"}])
def test_no_checkpoint_is_taken_for_the_best_and_loaded(finetuning: dict[str, Any], key: str) -> None:
    """The argument does not exist here, for any stage."""
    assert (f"/training/{key}", "There is no such argument.") in refusals_of(a_job(finetuning=finetuning, training={key: True}))


def test_sft_rm_and_ppo_are_one_job_and_the_reward_adapter_lies_on_what_the_policys_does() -> None:
    on_sft = {"model": {"model_name_or_path": "@sft"}}
    job = read_job(a_job(steps=[SFT, PAIRS | on_sft, ppo() | on_sft])).resolved
    (beside,) = companions(job.steps[-1])
    known, steps = lineages(job), {step.name: step for step in job.steps}
    assert lineage(beside.step, steps, known) == Lineage("tiny", ("@sft",), "@rm")
    assert known["ppo"] == Lineage("tiny", ("@sft",))
    whole = read_job(a_job(steps=[SFT, PAIRS | on_sft, ppo(reward_model_type="full") | on_sft])).resolved
    (beside,) = companions(whole.steps[-1])
    assert lineage(beside.step, steps, known) == Lineage("tiny", ("@sft", "@rm"))


def test_the_reward_adapter_stands_where_the_one_that_goes_on_does() -> None:
    model = {"model_name_or_path": "tiny", "adapter_name_or_path": "a,b"}
    (step,) = read_job(a_job(model=model, finetuning={"stage": "ppo", "reward_model": "scorer"})).resolved.steps
    (beside,) = companions(step)
    assert lineage(beside.step, {}, {}) == Lineage("tiny", ("a",), "scorer")
    new = {"stage": "ppo", "reward_model": "scorer", "create_new_adapter": True}
    (step,) = read_job(a_job(model=model, finetuning=new)).resolved.steps
    (beside,) = companions(step)
    assert lineage(beside.step, {}, {}) == Lineage("tiny", ("a", "b"), "scorer")


def names_of(document: dict[str, Any]) -> list[tuple[str, ...]]:
    return [step.measures.names for step in resolve(read_job(document).spec).steps]


def test_an_rm_step_is_measured_on_pairs_too_where_no_measures_are_named() -> None:
    usual = WITHOUT_MEMBERSHIP  # nothing is held out
    assert names_of(a_job(steps=[SFT, PAIRS])) == [usual, (*usual, *OF_PAIRS)]
    assert names_of(a_job(steps=[SFT, PAIRS], measures={"names": "entropy"})) == [("entropy",), ("entropy",)]
    own = PAIRS | {"measures": {"names": "reward_accuracy"}}
    assert names_of(a_job(steps=[SFT, own])) == [usual, ("reward_accuracy",)]
    assert names_of(a_job(finetuning={"stage": "rm"}, measures={"names": ""})) == [()]
