"""No argument is accepted and ignored: each has one fate, and each fate is what happens."""

import ast
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from service.specs.job import STEP_GROUPS
from service.specs.ledger import GROUPS, LEDGER, Fate
from service.specs.read import read_job
from service.specs.rules import CONDITIONS
from tests.specs.effects import EFFECTS
from tests.specs.job_documents import a_flat_job, a_job, pointers_of, refusals_of

ROOT = Path(__file__).parents[2]

ARGUMENTS = [f"{group}.{field}" for group, model in GROUPS.items() for field in model.model_fields]

_PPO = {"stage": "ppo", "reward_model": "judge"}
# a_job names a data set, which is nothing to a step that evaluates
_EVALUATING: dict[str, Any] = {"do": "evaluate", "data": {"dataset": None}}

# A document in which each condition fails, and the same at the level of a step.
WHERE_CONDITIONS_FAIL: dict[str, dict[str, Any]] = {
    "finetuning_type is freeze": {"finetuning": {"finetuning_type": "lora"}},
    "finetuning_type is lora": {"finetuning": {"finetuning_type": "full"}},
    "training makes a new LoRA adapter": {"model": {"adapter_name_or_path": "a"}, "finetuning": {}},
    "finetuning_type is lora and adapter_name_or_path is given": {"finetuning": {}},
    "quantization_bit is 4": {"model": {"quantization_bit": 8}},
    "optim is adamw_torch": {"training": {"optim": "sgd"}},
    "save_strategy is steps": {"training": {"save_strategy": "epoch"}},
    "measures.names has cross_entropy": {"measures": {"names": "entropy"}},
    "report_to or ppo_logger names wandb or mlflow": {"training": {"report_to": "tensorboard"}},
    "report_to or ppo_logger names wandb": {"training": {"report_to": "mlflow"}},
    "streaming is on": {"data": {"streaming": False}},
    "mix_strategy interleaves": {"data": {"mix_strategy": "concat", "dataset": "letters,numbers"}},
    "stage is sft": {"data": {}, "finetuning": {"stage": "pt"}},
    "stage is not pt": {"data": {}, "finetuning": {"stage": "pt"}},
    "the step exports": {"model": {}, "export": {}},
    "the step exports a whole model": {
        "do": "export",
        "model": {"adapter_name_or_path": "a"},
        "export": {"adapter_only": True},
    },
    "the step exports in export_quantization_bit": {"do": "export", "model": {"export_quantization_bit": None}, "export": {}},
    "the step exports to a hub": {"do": "export", "model": {"export_hub_model_id": None}, "export": {}},
    "the step exports into an export_dir": {"do": "export", "export": {}},
    "the step exports and has data": {"do": "export", "data": {"dataset": None}},
    "the step measures, evaluates, predicts or generates": {"measures": {}},
    "the step predicts": {"data": {}, "generating": {}},
    "the step predicts with several beams": {"do": "predict", "generating": {}},
    "the step evaluates": {"evaluation": {}},
    "the step evaluates, and the task is a folder's": {**_EVALUATING, "evaluation": {"task": "lm_eval:arc_easy"}},
    "a measure taken on a task is named": {"measures": {"names": "entropy"}},
    "a measure taken on generations is named": {"measures": {"names": "entropy"}},
    "stage is pt or sft": {"data": {}, "finetuning": {"stage": "dpo"}, "training": {}},
    "stage is dpo": {"finetuning": {"stage": "sft"}},
    "ref_model is given": {"finetuning": {"stage": "dpo"}},
    "stage is ppo": {"finetuning": {"stage": "sft"}, "generating": {}},
    "stage is not ppo": {"finetuning": _PPO, "training": {}},
    "stage is pt or sft and finetuning_type is full": {"finetuning": {"finetuning_type": "lora"}, "training": {}},
    "stage is ppo or dpo": {"finetuning": {"stage": "sft"}},
    "stage is ppo and reward_model_type is full": {"finetuning": _PPO},
    "stage is ppo and reward_model_type is api": {"finetuning": _PPO},
    "the step writes: predict, generate, the stage ppo, or a measure taken on generations": {
        "measures": {"names": "entropy"},
        "generating": {},
    },
    "do_sample is on, and the step writes: predict, generate, the stage ppo, or a measure taken on generations": {
        "finetuning": _PPO,
        "generating": {"do_sample": False},
    },
    "max_new_tokens is 0, and the step predicts, generates or is of the stage ppo": {"finetuning": _PPO, "generating": {}},
}

WHERE_CONDITIONS_HOLD: dict[str, dict[str, Any]] = {
    "finetuning_type is freeze": {"finetuning": {"finetuning_type": "freeze"}},
    "finetuning_type is lora": {"finetuning": {"finetuning_type": "lora"}},
    "training makes a new LoRA adapter": {"finetuning": {}},
    "finetuning_type is lora and adapter_name_or_path is given": {"model": {"adapter_name_or_path": "a"}, "finetuning": {}},
    "quantization_bit is 4": {"model": {"quantization_bit": 4}},
    "optim is adamw_torch": {"training": {"optim": "adamw_torch"}},
    "save_strategy is steps": {"training": {"save_strategy": "steps"}},
    "measures.names has cross_entropy": {"measures": {"names": "cross_entropy"}, "training": {}},
    "report_to or ppo_logger names wandb or mlflow": {"training": {"report_to": "mlflow"}},
    "report_to or ppo_logger names wandb": {"training": {"report_to": "wandb"}},
    "streaming is on": {"data": {"streaming": True}, "training": {"max_steps": 9}},
    "mix_strategy interleaves": {"data": {"mix_strategy": "interleave_under", "dataset": "letters,numbers"}},
    "stage is sft": {"data": {}, "finetuning": {"stage": "sft"}},
    "stage is not pt": {"data": {}, "finetuning": {"stage": "sft"}},
    "the step exports": {"do": "export", "model": {"adapter_name_or_path": "a"}, "export": {}},
    "the step exports a whole model": {"do": "export", "model": {}, "export": {}},
    "the step exports in export_quantization_bit": {
        "do": "export",
        "model": {"export_quantization_bit": 4, "export_quantization_dataset": "a"},
        "export": {},
    },
    "the step exports to a hub": {"do": "export", "model": {"export_hub_model_id": "ann/a", "hf_hub_token": "a"}, "export": {}},
    "the step exports into an export_dir": {"do": "export", "model": {"export_dir": "a"}, "export": {}},
    "the step exports and has data": {"do": "export", "export": {}},
    "the step measures, evaluates, predicts or generates": {"measures": {}, "do": "measure"},
    "the step predicts": {"data": {}, "generating": {}, "do": "predict"},
    "the step predicts with several beams": {"do": "predict", "generating": {"num_beams": 4}},
    "the step evaluates": {**_EVALUATING, "evaluation": {"task": "mmlu"}},
    "the step evaluates, and the task is a folder's": {**_EVALUATING, "evaluation": {"task": "mmlu"}},
    "a measure taken on a task is named": {"measures": {"names": "mutual_information"}},
    "a measure taken on generations is named": {"measures": {"names": "compression_ratio"}, "generating": {}},
    "stage is pt or sft": {"data": {}, "finetuning": {"stage": "sft"}, "training": {}},
    "stage is dpo": {"finetuning": {"stage": "dpo"}},
    "ref_model is given": {"finetuning": {"stage": "dpo", "ref_model": "other"}},
    "stage is ppo": {"finetuning": _PPO, "generating": {}},
    "stage is not ppo": {"finetuning": {"stage": "sft"}, "training": {}},
    "stage is pt or sft and finetuning_type is full": {"finetuning": {"finetuning_type": "full"}, "training": {}},
    "stage is ppo or dpo": {"finetuning": {"stage": "dpo"}},
    "stage is ppo and reward_model_type is full": {"finetuning": {**_PPO, "reward_model_type": "full"}},
    "stage is ppo and reward_model_type is api": {"finetuning": {**_PPO, "reward_model_type": "api"}},
    "the step writes: predict, generate, the stage ppo, or a measure taken on generations": {
        "finetuning": _PPO,
        "generating": {},
    },
    "do_sample is on, and the step writes: predict, generate, the stage ppo, or a measure taken on generations": {
        "measures": {"names": "compression_ratio"},
        "generating": {},
    },
    "max_new_tokens is 0, and the step predicts, generates or is of the stage ppo": {
        "finetuning": _PPO,
        "generating": {"max_new_tokens": 0},
    },
    "the worker has a GPU": {},
}

# Values other than the default, where the type alone does not give one.
OTHER_VALUES: dict[str, Any] = {
    "data.interleave_probs": "0.25,0.75",
    "finetuning.lora_dropout": 0.5,
    "training.adam_beta1": 0.5,
    "training.adam_beta2": 0.5,
    "data.template": "alpaca",
    "generating.top_p": 0.5,
    "model.export_hub_model_id": "ann/a",
    "measures.checkpoints": f"job-{0:024x}/sft/40",
    "evaluation.download_mode": "force_redownload",
}

# What an argument of an export needs beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "model.export_quantization_bit": {"export_quantization_dataset": "letters"},
    "model.export_hub_model_id": {"hf_hub_token": "hf_x"},
}

# What an argument needs of the job beside its condition.
OF_THE_JOB: dict[str, dict[str, Any]] = {"training.fsdp": {"resources": {"gpus": 2}}}


def arguments_of(*kinds: str) -> list[str]:
    return [argument for argument, fate in LEDGER.items() if fate.kind in kinds]


def other_value(argument: str) -> Any:
    """A value of the right type that is not the default."""
    if argument in OTHER_VALUES:
        return OTHER_VALUES[argument]
    group, field = argument.split(".")
    info = GROUPS[group].model_fields[field]
    default = None if info.is_required() else info.default
    candidates = [*literals_of(info.annotation), True, False, 7, 0.75, "other"]
    return next(value for value in candidates if value != default and is_valid(group, field, value))


def literals_of(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals_of(part)]


def is_valid(group: str, field: str, value: Any) -> bool:
    """Whether the field itself takes the value; other fields of the group may be missing."""
    try:
        GROUPS[group].model_validate({field: value})
    except ValidationError as error:
        return all(details["loc"][:1] != (field,) for details in error.errors())
    return True


def test_every_argument_has_exactly_one_fate_and_every_fate_an_argument() -> None:
    assert sorted(LEDGER) == sorted(ARGUMENTS)


def test_the_ledgers_source_names_no_argument_twice() -> None:
    """A dict keeps the last of two equal keys without a word."""
    tree = ast.parse((ROOT / "service" / "specs" / "ledger.py").read_text(encoding="utf-8"))
    assignments = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    (table,) = [node.value for node in assignments if ast.unparse(node.target) == "LEDGER"]
    assert isinstance(table, ast.Dict)
    keys = [ast.literal_eval(key) for key in table.keys if key]
    assert len(keys) == len(set(keys)) == len(LEDGER)


@pytest.mark.parametrize("argument", arguments_of("refused", "moot", "conditional"))
def test_a_fate_other_than_works_says_why(argument: str) -> None:
    assert LEDGER[argument].why.strip()


@pytest.mark.parametrize("argument", arguments_of("refused"))
def test_a_refusal_is_a_sentence(argument: str) -> None:
    why = LEDGER[argument].why
    assert why[0].isupper()
    assert why.endswith(".")


@pytest.mark.parametrize("argument", arguments_of("refused"))
def test_a_refused_argument_is_refused_at_job_level_with_its_pointer_and_sentence(argument: str) -> None:
    group, field = argument.split(".")
    assert (f"/{group}/{field}", LEDGER[argument].why) in refusals_of(a_job(**{group: {field: other_value(argument)}}))


@pytest.mark.parametrize("argument", [a for a in arguments_of("refused") if a.split(".")[0] in STEP_GROUPS])
def test_a_refused_argument_is_refused_inside_a_step(argument: str) -> None:
    group, field = argument.split(".")
    steps = [{"name": "first"}, {"name": "second", group: {field: other_value(argument)}}]
    assert (f"/steps/1/{group}/{field}", LEDGER[argument].why) in refusals_of(a_job(steps=steps))


@pytest.mark.parametrize("argument", arguments_of("refused"))
def test_a_refused_argument_is_refused_in_a_flat_file_under_its_own_name(argument: str) -> None:
    field = argument.split(".")[1]
    document = a_flat_job(**{field: other_value(argument)})
    assert (f"/{field}", LEDGER[argument].why) in refusals_of(document)


@pytest.mark.parametrize("argument", arguments_of("refused"))
def test_a_refused_argument_may_keep_its_default(argument: str) -> None:
    group, field = argument.split(".")
    default = GROUPS[group].model_fields[field].default
    assert f"/{group}/{field}" not in pointers_of(a_job(**{group: {field: default}}))


@pytest.mark.parametrize(("argument", "value"), [(a, v) for a, fate in LEDGER.items() for v in fate.allowed or ()])
def test_a_refused_argument_may_have_the_values_that_mean_off(argument: str, value: Any) -> None:
    group, field = argument.split(".")
    assert pointers_of(a_job(**{group: {field: value}})) == []


def test_every_condition_is_a_function_and_every_function_a_condition() -> None:
    assert {LEDGER[argument].why for argument in arguments_of("conditional")} == set(CONDITIONS)
    assert set(WHERE_CONDITIONS_HOLD) == set(CONDITIONS)
    # only a worker knows whether it has a GPU, so that condition never fails at submission
    assert set(CONDITIONS) - set(WHERE_CONDITIONS_FAIL) == {"the worker has a GPU"}


CAN_FAIL = [a for a in arguments_of("conditional") if LEDGER[a].why in WHERE_CONDITIONS_FAIL]


@pytest.mark.parametrize("argument", CAN_FAIL)
def test_a_conditional_argument_is_refused_where_its_condition_fails(argument: str) -> None:
    group, field = argument.split(".")
    why = f"This has no effect here: it works only where {LEDGER[argument].why}."
    where = WHERE_CONDITIONS_FAIL[LEDGER[argument].why]
    given = BESIDE.get(argument, {}) | {field: other_value(argument)}
    document = a_job(**where | {group: {**where.get(group, {}), **given}} | OF_THE_JOB.get(argument, {}))
    assert refusals_of(document) == [(f"/{group}/{field}", why)]


@pytest.mark.parametrize("argument", CAN_FAIL)
def test_a_conditional_argument_is_refused_in_the_step_where_its_condition_fails(argument: str) -> None:
    group, field = argument.split(".")
    fails, holds = WHERE_CONDITIONS_FAIL[LEDGER[argument].why], WHERE_CONDITIONS_HOLD[LEDGER[argument].why]
    given = BESIDE.get(argument, {}) | {field: other_value(argument)}
    steps = [
        {"name": "holds", **holds, group: {**holds[group], **given}},
        {"name": "fails", **fails, group: {**fails.get(group, {}), **given}},
    ]
    assert pointers_of(a_job(steps=steps, **OF_THE_JOB.get(argument, {}))) == [f"/steps/1/{group}/{field}"]


@pytest.mark.parametrize("argument", CAN_FAIL)
def test_a_jobs_conditional_argument_needs_one_step_that_it_reaches(argument: str) -> None:
    """A step that sets the argument itself is not reached by the job's own value."""
    group, field = argument.split(".")
    fails, holds = WHERE_CONDITIONS_FAIL[LEDGER[argument].why], WHERE_CONDITIONS_HOLD[LEDGER[argument].why]
    given = BESIDE.get(argument, {}) | {field: other_value(argument)}
    reached = {**holds, group: {name: given for name, given in holds.get(group, {}).items() if name != field}}
    step_fails, step_holds = {"name": "fails", **fails}, {"name": "holds", **reached}
    step_has_its_own = {"name": "own", **holds, group: {**holds[group], **given}}
    of_job = {group: given} | OF_THE_JOB.get(argument, {})
    assert pointers_of(a_job(**of_job, steps=[step_fails, step_holds])) == []
    assert f"/{group}/{field}" in pointers_of(a_job(**of_job, steps=[step_fails, step_has_its_own]))
    assert pointers_of(a_job(**of_job, steps=[step_has_its_own])) == []


@pytest.mark.parametrize("argument", arguments_of("conditional"))
def test_a_conditional_argument_is_accepted_where_its_condition_holds(argument: str) -> None:
    group, field = argument.split(".")
    holds = WHERE_CONDITIONS_HOLD[LEDGER[argument].why]
    given = BESIDE.get(argument, {}) | {field: other_value(argument)}
    document = a_job(**holds | {group: {**holds.get(group, {}), **given}} | OF_THE_JOB.get(argument, {}))
    assert refusals_of(document) == []


@pytest.mark.parametrize("argument", arguments_of("moot"))
@pytest.mark.parametrize("value", [True, False])
def test_a_moot_argument_is_accepted_with_a_notice_that_says_what_happens(argument: str, value: bool) -> None:
    group, field = argument.split(".")
    at_job = read_job(a_job(**{group: {field: value}}))
    in_step = read_job(a_job(steps=[{"name": "only", group: {field: value}}]))
    flat = read_job(a_flat_job(**{field: value}))
    assert [(notice.pointer, notice.detail) for notice in at_job.notices] == [(f"/{group}/{field}", LEDGER[argument].why)]
    assert [notice.pointer for notice in in_step.notices] == [f"/steps/0/{group}/{field}"]
    assert [notice.pointer for notice in flat.notices] == [f"/{field}"]


def test_a_job_that_sets_nothing_moot_has_no_notices() -> None:
    assert read_job(a_job()).notices == ()


def test_every_working_argument_has_a_test_that_observes_its_effect() -> None:
    missing = [argument for argument in arguments_of("works", "conditional") if argument not in EFFECTS]
    assert not missing, "effects.py names no test that observes: " + ", ".join(missing)


def test_effects_are_named_for_working_arguments_only() -> None:
    assert set(EFFECTS) <= set(arguments_of("works", "conditional"))


@pytest.mark.parametrize("argument", EFFECTS)
def test_the_test_that_observes_an_effect_exists(argument: str) -> None:
    path, _, name = EFFECTS[argument].partition("::")
    assert name in functions_of(ROOT / path), f"{argument}: there is no {EFFECTS[argument]}"
    assert argument.split(".")[1] in (ROOT / path).read_text(encoding="utf-8"), f"{path} does not mention {argument}"


@cache
def functions_of(path: Path) -> frozenset[str]:
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def test_a_fate_is_one_of_four() -> None:
    assert {fate.kind for fate in LEDGER.values()} == set(get_args(Fate.__annotations__["kind"]))
